"""Sees how long nobody has asked anything, tells of the end beforehand, and says when it is due."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from client.idle.activity import Activity
from contracts.files import write_whole
from contracts.job_files import IDLE, IdleState

#: Seconds between looks.
LOOK_S = 0.5
#: While requests come, what is told of the end is behind by this part of the timeout at most.
_BEHIND = 0.05
#: By so many seconds at least a clock is set; by less it is corrected on and on.
_SET_S = 1.0


def _ahead() -> float:
    """By how many seconds the clock is ahead of the one that nobody sets."""
    return time.time() - time.monotonic()


class IdleWatch:
    """Of one deployment: `told`, ID.idle.json, has when it would end, for --status and pages;
    `said`, a file of the job's own, comes when it is to end, with the reason."""

    def __init__(
        self,
        timeout_s: float,
        seen: Callable[[], bool],
        told: Path,
        said: Path,
        may_end: Callable[[], bool] = lambda: True,
        moved: Callable[[], bool] = lambda: False,
        ahead: Callable[[], float] = _ahead,
    ) -> None:
        """`seen`: whether somebody asks something, or has since the last call; `may_end`: whether
        nobody does after all, asked when it is due; `moved`: whether the next jobs have what comes,
        so that it is theirs to see; `ahead`: how far the clock is ahead."""
        self._timeout_s, self._seen, self._may_end = timeout_s, seen, may_end
        self._moved = moved
        self._ahead, self._was_ahead = ahead, ahead()
        self._told, self._said = told, said
        self._last = 0.0
        self._written: IdleState | None = None

    def follow(self) -> None:
        """Look from now on, beside everything else."""
        threading.Thread(target=self._look_on, daemon=True).start()

    def _look_on(self) -> None:
        wait = threading.Event()
        while not self.look(time.time()):
            wait.wait(LOOK_S)

    def look(self, now: float) -> bool:
        """Look once; return whether it is to end."""
        self._follow_clock()
        if self._moved():
            self._last = now
            return False
        busy = self._seen()
        if busy or not self._last:
            self._last = now
        self._tell_end(busy)
        if now - self._last < self._timeout_s:
            return False
        if not self._may_end():
            self._last = now
            return False
        with contextlib.suppress(OSError):  # next time
            write_whole(self._said, [f"{IDLE}{in_words(self._timeout_s)}"], 0o600)
            return True
        return False

    def _follow_clock(self) -> None:
        """If somebody has set it, no time has passed."""
        set_by = self._ahead() - self._was_ahead
        if abs(set_by) >= _SET_S:
            self._was_ahead += set_by
            self._last += set_by if self._last else 0.0

    def pause(self, state: str) -> None:
        """Tell that no end is near; time counts from the next look."""
        self._tell(IdleState(self._timeout_s, self._last, None, state))

    def _tell_end(self, busy: bool) -> None:
        """While requests come, not with each of them: it is a file that is shared."""
        before = self._written
        fresh = before is not None and before.ends is not None and (
            self._last - before.last_request < self._timeout_s * _BEHIND
        )  # fmt: skip
        if not (busy and fresh):
            self._tell(IdleState(self._timeout_s, self._last, self._last + self._timeout_s))

    def _tell(self, state: IdleState) -> None:
        if state != self._written:
            with contextlib.suppress(OSError):  # next time
                write_whole(self._told, [json.dumps(state.as_facts())], 0o644)
                self._written = state


def in_words(seconds: float) -> str:
    """A time in the largest unit that it is a whole number of."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"


def seen_at(
    commands: Path, works: Callable[[], bool], up: Callable[[], bool]
) -> Callable[[], bool]:
    """Return what an IdleWatch asks. `works`: whether the deployment is at work though nobody asks
    at the door; `up`: whether an engine answers: before the first that does, time does not count.
    """
    activity, begun = Activity(commands), threading.Event()

    def seen() -> bool:
        if not begun.is_set() and up():
            begun.set()
        return activity.seen() or works() or not begun.is_set()

    return seen
