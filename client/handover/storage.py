"""The storage of a Qdrant that is a job of its own: the next job's opens it once this one's has
closed it (lib/storage.sh)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from contracts.job_files import address_file, fresh, read_exit_status
from contracts.jobs.ids import number_of

#: Seconds that requests which find or store chunks have to end before the storage is closed, and
#: after which a Qdrant that was told to end is told again.
RELEASE_S, AGAIN_S = 10, 15


class Storage:
    """When Qdrant is told to end; jobs by their ids, `job` is "" if there is none."""

    def __init__(self, output: Path, job: str, busy: Callable[[], int]) -> None:
        """`busy`: how many requests find or store chunks by it."""
        self._output, self._job, self._busy = output, job, busy
        self._tell_at = math.inf
        self.released = not job  # it was told to end, or has ended

    def awaited(self, following: str) -> bool:
        """Whether the next Qdrant lacks nothing but the storage; also if there is none."""
        path = self._output / "logs" / f"{number_of(following)}.prepared"
        return not self._job or fresh(path).exists()

    def moved(self, now: float) -> None:
        """Note that no more requests come."""
        self._tell_at = now + RELEASE_S

    def to_be_told(self, now: float, following: str) -> bool:
        """Whether Qdrant is to be told that it ends: once nobody asks it, or they have had their
        time; again, if it goes on. Raises OSError."""
        if not self._job or self._closed(following):
            self.released = True
            return False
        if now < self._tell_at and (self.released or self._busy()):
            return False
        self.released, self._tell_at = True, now + AGAIN_S
        return True

    def _closed(self, following: str) -> bool:
        """Its node may have died, and then its own file does not say it."""
        opened = fresh(address_file(self._output, "qdrant", number_of(following))).exists()
        return opened or read_exit_status(self._output, number_of(self._job)) is not None
