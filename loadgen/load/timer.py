"""A clock that rings to the microsecond: a timer of the kernel, read by the loop like a socket.

An event loop's own timers go by whole milliseconds, which is too coarse to send a request in time,
and they are checked apart from the sockets: how late they are says little of how late bytes are.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
from array import array
from collections.abc import Callable
from time import perf_counter

_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME = 1, 1  # linux/time.h, linux/timerfd.h
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are the same
_C = ctypes.CDLL(None, use_errno=True)  # os.timerfd_create comes with Python 3.13

#: Between two samples of our lag, on average; irregular, so as not to keep step with tokens.
PROBE_PERIOD_S = 0.01


class _Spec(ctypes.Structure):
    """struct itimerspec: an interval and a time, each as seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Timer:
    """Calls `ring` in the loop at the time that was last set."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._fd = _C.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer can be made")
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._expired)

    def set(self, at: float) -> None:
        """Ring at `at`, a time of perf_counter (CLOCK_MONOTONIC on Linux); at once if it is
        past."""
        whole = int(at)
        spec = _Spec(0, 0, whole, max(1, int((at - whole) * 1e9)))
        _C.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def close(self) -> None:
        """Never ring again."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was set anew in between
            return
        self._ring()


class Deadline:
    """Fails one request after another, by `fail`, that takes longer than it may.

    Nearly all end long before that, and to set a timer for each costs as much as parsing some of
    its lines: so that of an earlier request stays, and looks at the deadline when it rings. For
    that, the loop's own timers are exact enough.
    """

    def __init__(self, fail: Callable[[str, str], None]) -> None:
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._at: float | None = None
        self._seconds = self._rings = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, since: float, seconds: float) -> None:
        """A request is under way that may take `seconds` since a time of perf_counter."""
        self._at, self._seconds = since + seconds, seconds
        if self._timer is None or self._at < self._rings:
            self._wait_for(self._at)

    def clear(self) -> None:
        """It has ended."""
        self._at = None

    def close(self) -> None:
        """There will be no other."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait_for(self, at: float) -> None:
        self.close()
        self._rings = at
        self._timer = self._loop.call_later(max(0.0, at - perf_counter()), self._rang)

    def _rang(self) -> None:
        self._timer = None
        if self._at is not None and perf_counter() < self._at:
            self._wait_for(self._at)
        elif self._at is not None:
            self._fail("timeout", f"no end in {self._seconds:g} s")


async def sleep_until(at: float, timer: Timer, rung: asyncio.Event) -> None:
    """Wait for a time of perf_counter; `timer` is to set `rung`."""
    if at > perf_counter():
        rung.clear()
        timer.set(at)
        await rung.wait()


class LagProbe:
    """How late an event of known time reaches us, sampled in irregular intervals.

    An interval that was missed because we were late counts too, as if it had been sampled: else a
    pause of a second would weigh no more than one of a millisecond.
    """

    def __init__(self) -> None:
        self.lags = array("d")
        self._drawn = random.Random(0)
        self._timer = Timer(self._ring)
        self._next()

    def _next(self) -> None:
        self._due = perf_counter() + PROBE_PERIOD_S * self._drawn.uniform(0.5, 1.5)
        self._timer.set(self._due)

    def _ring(self) -> None:
        lag = perf_counter() - self._due
        while lag > 0:
            self.lags.append(lag)
            lag -= PROBE_PERIOD_S
        self._next()

    def close(self) -> None:
        """Take no more samples."""
        self._timer.close()
