"""What tests of faults share: a watch, and what orch.py must say at the end of one."""

from __future__ import annotations

import re
import subprocess
import time


class Fault:
    """One row of the table of faults: its number and name, the verdict, and seconds up to it."""

    def __init__(self) -> None:
        self.name = "unnamed"
        self.verdict = "no verdict"
        self.seconds = float("nan")
        self._begin = time.monotonic()

    def happens(self, name: str) -> None:
        """The fault is there, from now on."""
        self.name = name
        self._begin = time.monotonic()

    def seen(self, verdict: str) -> None:
        """The user has been told."""
        self.verdict = verdict
        self.seconds = time.monotonic() - self._begin

    def ends(self, result: subprocess.CompletedProcess[str], code: int, words: str) -> None:
        """orch has ended, with this exit code and these words (a regular expression)."""
        self.seen(f"exit {result.returncode}")
        said = f"exit {result.returncode}\nstdout: {result.stdout}\nstderr: {result.stderr}"
        assert result.returncode == code, said
        match = re.search(words, result.stderr)
        assert match, said
        self.verdict += f": {match.group()[:60]}"
        assert "Traceback" not in result.stderr


def natural(name: str) -> tuple[int, str]:
    """Order of rows: by number."""
    number = re.match(r"\d+", name)
    return (int(number.group()) if number else 0, name)
