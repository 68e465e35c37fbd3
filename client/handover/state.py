"""How a hand-over stands, as others read it: `deployments/ID.chain/handover.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from contracts.files import write_atomically
from contracts.job_files import fresh

#: The next jobs are not asked for; are submitted; load their model; have what comes from now on,
#: while answers are open here; no answer is open here.
Phase = Literal["serving", "submitted", "waiting", "handing_over", "handed_over"]


@dataclass
class State:
    """How it stands. Times in seconds since 1970: when the next jobs are submitted, when these
    here end, when the next are `expected` to serve; `dark_s`: for how long nobody will."""

    job: int
    max_jobs: int | None
    ends: int
    phase: Phase = "serving"
    lead_s: int | None = None
    lead: dict[str, int] | None = None
    submit_at: int | None = None
    successor: dict[str, str] | None = None
    expected: int | None = None
    dark_s: int | None = None
    address: str | None = None
    problem: str | None = None


def read_state(path: Path) -> State | None:
    """Return what the file says; None if there is none, or a version of this wrote it that knew
    other keys."""
    try:
        return State(**json.loads(fresh(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None


#: Seconds after which a job that has not said that it is handed over is thought to be gone.
_GONE_S = 20


class StateFile:
    """That file, written whole at each change, by one job at a time: the one that serves says how
    it stands until it has handed over or is gone, then the next one does, once it serves; and
    again, if that is lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""
        self._is_ours = False
        self._over = False

    def write(self, state: State, now: float) -> None:
        """Write it, if it has changed. Raises FileError."""
        text = json.dumps(asdict(state)) + "\n"
        if text == self._written or (self._over and state.phase == "handed_over"):
            return
        self._is_ours = self._is_ours or self._is_free(state.job, now)
        if self._is_ours:
            write_atomically(self._path, text)
            self._written, self._over = text, state.phase == "handed_over"

    def _is_free(self, job: int, now: float) -> bool:
        before = read_state(self._path)
        if before is None:
            return True
        return before.job >= job or before.phase == "handed_over" or now > before.ends + _GONE_S
