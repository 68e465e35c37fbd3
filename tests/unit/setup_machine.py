"""Runs a set-up script in a copy of the project, with a PATH that holds what a test says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["awk", "bash", "cat", "cksum", "cut", "dirname", "env", "flock", "grep", "mkdir"]
PROGRAMS += ["mktemp", "mv", "rm", "sed", "sort", "tail", "uname"]


class Machine:
    """A copy of what set-up needs, and a PATH with a few programs, apt-get not among them."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "a project"
        self.bin = folder / "bin"
        self.home = folder / "home"
        for path in (self.project, self.bin, self.home):
            path.mkdir()
        shutil.copytree(ROOT / "scripts", self.project / "scripts")
        for name in ("requirements.lock", "requirements-dev.lock"):
            shutil.copy(ROOT / name, self.project)
        for name in PROGRAMS:
            if found := shutil.which(name):
                (self.bin / name).symlink_to(found)

    def brings(self, *names: str) -> None:
        """Put more of the system's programs on the PATH."""
        for name in names:
            (self.bin / name).symlink_to(shutil.which(name) or name)

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)  # it may be a link to the system's own
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [shutil.which("bash") or "bash", f"scripts/{script}", *arguments],
            cwd=self.project,
            env={"PATH": str(self.bin), "HOME": str(self.home)} | variables,
            capture_output=True,
            text=True,
            timeout=120,
        )


def sentence(result: subprocess.CompletedProcess) -> str:
    """What a failed script said, which is one line and all of it on stderr."""
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr
