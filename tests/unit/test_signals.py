"""Signals become exceptions, but not in the midst of what must be done whole."""

import io
import os
import signal
import sys
import threading

import pytest

from contracts.errors import Interrupted
from hpc import signals
from hpc.console import Console
from hpc.following.background import Background
from hpc.lines import ticking


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


@pytest.fixture
def thread_ended(monkeypatch):
    """Each start of a thread by this one is interrupted; set at the thread's end. Raised there,
    threading forgets the thread, which then dies with a KeyError of its own."""
    start, ended = threading._start_new_thread, threading.Event()
    ours = threading.get_ident()

    def starting(bootstrap, arguments):
        if threading.get_ident() != ours:  # a server that another test has left
            return start(bootstrap, arguments)

        def run():
            try:
                bootstrap(*arguments)
            finally:
                ended.set()

        thread = start(run, ())
        interrupt()
        return thread

    monkeypatch.setattr(threading, "_start_new_thread", starting)
    return ended


@pytest.fixture
def words(monkeypatch):
    """What Python says of a thread that dies of its own books."""
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: said.append(repr(error.exc_value)))
    return said


def test_a_signal_while_a_thread_is_started_leaves_a_thread_that_runs(thread_ended, words):
    call = Background(lambda: "done")
    with pytest.raises(Interrupted):
        call.start()
    assert thread_ended.wait(5)
    assert call.finished(5)
    assert (call.take(), words) == ("done", [])


@pytest.mark.parametrize("interactive", [True, False], ids=["terminal", "log"])
def test_a_signal_while_a_live_view_begins_ends_it_without_a_word(
    thread_ended, words, interactive, monkeypatch
):
    stream = io.StringIO()
    stream.isatty = lambda: interactive
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(Interrupted), Console().live(lambda: [["a"]]):
        pytest.fail("the block is not entered")
    assert thread_ended.wait(5)
    assert not words


def test_a_signal_before_its_thread_is_started_ends_it_without_a_word(monkeypatch):
    def told_before(_thread):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(signals, "start", told_before)
    with pytest.raises(Interrupted), ticking(lambda: None):
        pytest.fail("the block is not entered")
