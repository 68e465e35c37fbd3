"""Sees how long nobody has asked anything, tells of the end beforehand, and says when it is due."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from client.idle.activity import Activity
from client.settings import ServiceSettings
from contracts.files import write_whole
from contracts.job_files import IdleState, idle_file

#: Seconds between looks.
LOOK_S = 0.5
#: While requests come, what is told of the end is behind by this part of the timeout at most.
_BEHIND = 0.05


class IdleWatch:
    """Of one deployment: `output/deployments/ID.idle.json` has when it would end, for --status and
    pages; `said`, a file of the job's own, comes when it is to end, with the reason."""

    def __init__(self, timeout_s: float, seen: Callable[[], bool], told: Path, said: Path) -> None:
        """`seen`: whether somebody asks something, or has since the last call."""
        self._timeout_s, self._seen = timeout_s, seen
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
        busy = self._seen()
        if busy or not self._last:
            self._last = now
        self._tell(busy)
        if now - self._last < self._timeout_s:
            return False
        with contextlib.suppress(OSError):  # next time
            write_whole(self._said, [f"idle for {in_words(self._timeout_s)}"], 0o600)
            return True
        return False

    def _tell(self, busy: bool) -> None:
        """While requests come, not with each of them: it is a file that is shared."""
        if (
            busy
            and self._written
            and (self._last - self._written.last_request < self._timeout_s * _BEHIND)
        ):
            return
        state = IdleState(self._timeout_s, self._last, self._last + self._timeout_s)
        if state != self._written:
            with contextlib.suppress(OSError):  # next time
                write_whole(self._told, [state.as_json()], 0o644)
                self._written = state


def in_words(seconds: float) -> str:
    """A time in the largest unit that it is a whole number of."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"


def watch_idle(
    settings: ServiceSettings, works: Callable[[], bool], up: Callable[[], bool]
) -> None:
    """Begin, if the deployment is to end when nobody asks. `works`: whether it is at work though
    nobody asks at the door; `up`: whether an engine answers. Time counts from the first that does.
    """
    if settings.idle_s is None or settings.deployment is None:
        return
    activity, begun = Activity(settings.door / "commands"), threading.Event()

    def seen() -> bool:
        if not begun.is_set() and up():
            begun.set()
        return activity.seen() or works() or not begun.is_set()

    told = idle_file(settings.output, settings.deployment)
    IdleWatch(settings.idle_s, seen, told, settings.door / "idle").follow()
