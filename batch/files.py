"""Where a batch's files are: beside its answers."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """The files of a batch whose answers are in `answers`."""

    answers: Path

    @property
    def errors(self) -> Path:
        """Lines that failed in the end, of the last run."""
        return self._beside("errors.jsonl")

    @property
    def ledger(self) -> Path:
        """What is done, and under which conditions."""
        return self._beside("ledger.jsonl")

    @property
    def state(self) -> Path:
        """How far it is, for other programs."""
        return self._beside("state.json")

    @property
    def before(self) -> Path:
        """The answers as they were before some were taken out, whose lines are no longer there."""
        return self._beside("before.jsonl")

    @property
    def problem(self) -> str:
        """What keeps `answers` from being the name of a file of answers; "" if nothing does."""
        try:
            mode = self.answers.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return self._too_long
        except OSError as error:
            return f"cannot be written: {error.strerror}"
        if stat.S_ISREG(mode):
            return self._too_long
        kind = "a folder; name a file in it" if stat.S_ISDIR(mode) else "no file; name one"
        return f"is {kind} for the answers"

    @property
    def _too_long(self) -> str:
        """Of the names beside it the longest is that of the state while it is written."""
        try:
            self.state.with_name(f".{self.state.name}.{'0' * 32}").stat()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            return f"cannot be written: {error.strerror}"
        return ""

    def _beside(self, end: str) -> Path:
        return self.answers.with_name(f"{self.answers.name}.{end}")


def files_of(given: Path, out: Path | None = None) -> Files:
    """Return the files of the batch of an input, whose answers go to `out`, else beside it with
    `.out` before its suffix."""
    return Files(out or given.with_name(f"{given.stem}.out{given.suffix}"))
