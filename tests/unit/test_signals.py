"""Signals become exceptions, but not in the midst of what must be done whole."""

import os
import signal
import threading

import pytest

from hpc import signals
from hpc.background import Background
from hpc.errors import Interrupted


@pytest.fixture(autouse=True)
def _installed():
    before = {number: signal.getsignal(number) for number in signals._HANDLED}
    signals.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_held_back_comes_after_the_outermost_block():
    done = []
    with pytest.raises(Interrupted), signals.held():
        with signals.held():
            interrupt()
        done.append("after the inner block")
    assert done == ["after the inner block"]


def test_a_signal_while_a_thread_is_started_leaves_a_thread_that_runs(monkeypatch):
    """Raised there, threading forgets the thread, which then dies with a KeyError of its own."""
    start = threading._start_new_thread

    def starting(*arguments):
        thread = start(*arguments)
        interrupt()
        return thread

    call = Background(lambda: "done")
    monkeypatch.setattr(threading, "_start_new_thread", starting)
    with pytest.raises(Interrupted):
        call.start()
    assert call.finished(5)
    assert call.take() == "done"
