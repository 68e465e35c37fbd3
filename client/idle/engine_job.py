"""Files by which an engine that is there only while somebody asks comes and goes, in the folder of
the door's sockets: the services of this job say what is wanted, and its script, which alone
submits, does it (lib/on_request.sh)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EngineJob:
    """The id of the engine's job, empty if there is none; why the last one failed, empty if it did
    not; since when that is so, a Unix time; and when a job that waits is to begin, 0 if that is not
    known."""

    job: str = ""
    problem: str = ""
    since: float = 0.0
    expected: float = 0.0


class EngineFiles:
    """Those files."""

    def __init__(self, folder: Path) -> None:
        self._engine, self._expected = folder / "engine", folder / "expected"
        self._wake = folder / "wake"
        self._idle, self._awake = folder / "idle", folder / "awake"

    def read(self) -> EngineJob:
        """Return what there is; one that is about to end counts for none."""
        try:
            job, _, problem = self._engine.read_text("utf-8", "replace").partition("\n")
            since = self._engine.stat().st_mtime
        except OSError:  # not begun
            return EngineJob()
        job = "" if self._idle.exists() else job.strip()
        return EngineJob(job, problem.strip(), since, self._start())

    def _start(self) -> float:
        try:
            return float(self._expected.read_text("utf-8", "replace"))
        except (OSError, ValueError):  # nobody knows
            return 0.0

    def wake(self) -> None:
        """Have a job submitted if there is none. Raises OSError."""
        self._wake.touch()

    @property
    def awake(self) -> bool:
        """Whether the door lets requests through to the engine."""
        return self._awake.exists()

    def let_through(self, whether: bool) -> None:
        """Note that it does, or does not."""
        if whether:
            self._awake.touch()
        else:
            with contextlib.suppress(FileNotFoundError):
                self._awake.unlink()
