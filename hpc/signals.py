"""Signals as exceptions: INT and TERM end our jobs, HUP (a lost terminal) leaves them alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from contracts.errors import Detached, Interrupted

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    holding = False
    pending: int | None = None


def _raise(signum: int) -> None:
    if signum == signal.SIGHUP:
        # It may come twice, from the shell and from the kernel.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise Detached("the terminal is gone")
    raise Interrupted(signum)


def _handle(signum: int, _frame: FrameType | None) -> None:
    if _State.holding:
        _State.pending = signum
    else:
        _raise(signum)


def install() -> None:
    """Turn INT and TERM into Interrupted, HUP into Detached, from now on.

    A signal that is ignored when we start (nohup) stays ignored.
    """
    for signum in _HANDLED:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _handle)


def pending() -> bool:
    """Whether a signal came that is held back."""
    return _State.pending is not None


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back inside the block, for what must be done whole; or inside the outermost of
    several such blocks: no job is submitted without being written down."""
    outer, _State.holding = _State.holding, True
    try:
        yield
    finally:
        _State.holding = outer
    if outer:
        return
    pending, _State.pending = _State.pending, None
    if pending is not None:
        _raise(pending)


def start(thread: threading.Thread) -> None:
    """Start it whole: a signal in the midst would leave threading's own books half written, and the
    thread would end with a KeyError."""
    with held():
        thread.start()
