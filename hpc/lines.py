"""Lines of a log that say how a long wait stands: none leaves its reader without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpc import signals

#: Between two lines of a log: with a look each second nobody waits for more than ten.
LINE_EVERY_S, TICK_S = 8.5, 1.0
#: The same while all that is waited for is a place in a queue, which may take hours.
QUEUE_LINE_EVERY_S = 60.0


class Lines:
    """Says how a long wait stands as often as a log is to have it; `tick` is called now and then,
    from any thread."""

    def __init__(
        self,
        say: Callable[[str], None],
        line: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        every_s: Callable[[], float] = lambda: LINE_EVERY_S,
    ) -> None:
        self._say, self._line, self._clock, self._every_s = say, line, clock, every_s
        self._told_at = clock()
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Say it if it is time."""
        with self._lock:
            if self._clock() - self._told_at < self._every_s():
                return
            self._told_at = self._clock()
        self._say(self._line())


@contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call it each second while the block runs, whatever the block waits for."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(TICK_S):
            tick()

    thread = threading.Thread(target=go_on, daemon=True)
    try:
        signals.start(thread)
        yield
    finally:
        over.set()
        if thread.ident is not None:  # else a signal came before it was started
            thread.join()


def waited(since: float, now: float) -> str:
    """How long that was, as a line has it."""
    return f"{now - since:.0f} s"
