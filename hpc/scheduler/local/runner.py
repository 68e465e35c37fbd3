"""Runs one local job: `runner.py JOB.json`. Needs the standard library alone.

Does what slurmd does for a batch job: runs the script in a session of its own with its output in
files, ends it at its time limit (SIGTERM, then SIGKILL), lets nothing of it outlive it, and says
how it ended, in Slurm's words.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

#: Between SIGTERM and SIGKILL; Slurm's KillWait has the same default (slurm.conf(5)).
KILL_WAIT_S = 30


class LocalJob(TypedDict, total=False):
    """A job's file: what is asked for, and once the runner has begun what it says. Times in seconds
    since the epoch; `runner_start` as hpc/scheduler/local/processes.py has it."""

    id: str
    name: str
    script: str
    arguments: list[str]
    stdout: str
    stderr: str
    time_seconds: int
    state: str
    reason: str
    pid: int
    runner_pid: int
    runner_start: str
    started: float
    exit_code: int
    ended: float


class Cancelled(Exception):
    """SIGTERM came: the job is to end."""


class _Term:
    """SIGTERM, held back until there is a job to end."""

    def __init__(self) -> None:
        self.came = False
        self.armed = False
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, _signum: int, _frame: object) -> None:
        again, self.came = self.came, True
        if self.armed and not again:  # one that follows at once is not to end what the first began
            raise Cancelled

    def arm(self) -> None:
        self.armed = True
        if self.came:
            raise Cancelled


def main(path: Path) -> None:
    """Run the job that the file `path` describes, and keep its state there."""
    term = _Term()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job: LocalJob = json.loads(path.read_text())
    try:
        process = _start(job)
        own_start = Path("/proc/self/stat")
        job |= {
            "state": "RUNNING",
            "pid": process.pid,
            "runner_pid": os.getpid(),
            "runner_start": _field22(own_start.read_text()) if own_start.exists() else "?",
            "started": time.time(),
        }
        _write(path, job)
    except OSError as error:
        job |= {"state": "FAILED", "reason": f"the script cannot be run: {error}"}
        _write(path, job)
        return
    state, code = _wait(process, job["time_seconds"], term)
    _signal_group(process.pid, signal.SIGKILL)
    job |= {"state": state, "exit_code": code, "ended": time.time()}
    _write(path, job)


def _start(job: LocalJob) -> subprocess.Popen[bytes]:
    with Path(job["stdout"]).open("ab") as out, Path(job["stderr"]).open("ab") as err:
        return subprocess.Popen(
            ["bash", job["script"], *job.get("arguments", [])],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], limit_s: int, term: _Term) -> tuple[str, int]:
    """Wait for the end, or bring it about. Returns Slurm's state and the exit code."""
    try:
        term.arm()
        code = process.wait(limit_s)
        return ("COMPLETED" if code == 0 else "FAILED"), code
    except Cancelled:
        state = "CANCELLED"
    except subprocess.TimeoutExpired:
        state = "TIMEOUT"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _signal_group(process.pid, signal.SIGTERM)
    try:
        return state, process.wait(KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        _signal_group(process.pid, signal.SIGKILL)
        return state, process.wait()


def _signal_group(group: int, signum: int) -> None:
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        pass


def _field22(stat: str) -> str:
    return stat.rpartition(")")[2].split()[19]


def _write(path: Path, job: LocalJob) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(job))
    temporary.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
