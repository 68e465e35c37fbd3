"""Turns at a folder that only one process may have open: who wants it leaves a mark, and who has it
releases it as soon as it is idle. If nobody waits, it stays open: to open it takes time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Idle for so long, in seconds, a folder is given to who waits for it.
IDLE_S = 1.0
#: How long one waits for it: a few times as long.
PATIENCE_S = 4.0
_CHECK_PERIOD_S, _MARK = 0.25, ".wanted"


class Turns:
    """The turns of one process. `close_folder` is called from another thread."""

    def __init__(self, folder: Path, close_folder: Callable[[], None]) -> None:
        self._mark = folder / _MARK
        self._close_folder = close_folder
        self._used_at = 0.0
        self._closed = threading.Event()

    def closed(self) -> None:
        """Note that the folder is closed: there is nothing to release."""
        self._closed.set()

    def used(self) -> None:
        """Note that the folder is used now."""
        self._used_at = time.monotonic()

    def acquire(self, opened: Callable[[], T], is_taken: Callable[[Exception], bool]) -> T:
        """Return what `opened` returns, which is tried again while `is_taken` says of its error
        that another process has the folder. Raises that error if it stays so."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = opened()
            except (OSError, RuntimeError) as error:
                if not is_taken(error) or time.monotonic() > deadline:
                    raise
                self._mark.touch()
                time.sleep(_CHECK_PERIOD_S)
                continue
            self._mark.unlink(missing_ok=True)
            self._watch()
            return found

    def _watch(self) -> None:
        self.used()
        self._closed = closed = threading.Event()
        threading.Thread(target=self._until_wanted, args=(closed,), daemon=True).start()

    def _until_wanted(self, closed: threading.Event) -> None:
        """Close the folder once somebody waits for it and it is idle."""
        while not closed.wait(_CHECK_PERIOD_S):
            idle = time.monotonic() - self._used_at >= IDLE_S
            with contextlib.suppress(OSError):  # a file system that hiccups: the next check sees
                if idle and self._mark.exists():
                    self._close_folder()
