"""Local processes in place of a scheduler: the very same scripts, run by bash.

Each job has a runner (hpc/scheduler/local/runner.py), a small process that outlives orch, honours
the time limit and keeps the job's state in `output/local_jobs/<id>.json`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import SchedulerError
from contracts.files import write_atomically
from contracts.jobs.states import JobStatus, Outlook, Reason
from hpc.scheduler.interface import Partition, Submission
from hpc.scheduler.slurm.environment import clean_environment

if TYPE_CHECKING:
    from hpc.scheduler.local.runner import LocalJob

RUNNER = Path(__file__).with_name("runner.py")
#: Keeps local ids apart from Slurm's numbers in one output directory.
PREFIX = "local"
#: A runner signs in within 0.1 s, on a machine that is very busy within a few seconds.
RUNNER_START_S = 10


class LocalScheduler:
    """Runs jobs as processes of this machine, each in a session of its own."""

    title = "this machine"

    def __init__(self, output: Path) -> None:
        self._folder = output / "local_jobs"

    def partitions(self) -> Sequence[Partition]:
        """None: this machine is taken as it is."""
        return []

    def submit(self, job: Submission, arguments: Sequence[str] = ()) -> str:
        """Start the job's runner and return the job's id. `arguments` are the script's."""
        self._folder.mkdir(parents=True, exist_ok=True)
        job_id = self._new_id()
        description: LocalJob = {
            "id": job_id,
            "name": job.name,
            "script": str(job.script),
            "arguments": list(arguments),
            "stdout": job.stdout.replace("%j", job_id),
            "stderr": job.stderr.replace("%j", job_id),
            "time_seconds": job.time_seconds,
            "state": "PENDING",
        }
        write_atomically(self._path(job_id), json.dumps(description))
        self._start_runner(job_id)
        return job_id

    def _new_id(self) -> str:
        """The next free number, taken by creating its file: two callers never get the same."""
        numbers = [_number(path.stem) for path in self._folder.glob(f"{PREFIX}*.json")]
        number = max(numbers, default=0)
        while True:
            number += 1
            try:
                self._path(f"{PREFIX}{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                raise SchedulerError(
                    f"cannot write into {self._folder}: {error.strerror}; choose another place "
                    "with --output-dir."
                ) from error
            return f"{PREFIX}{number}"

    def _start_runner(self, job_id: str) -> None:
        # -I -S: the runner needs the standard library alone, and starts in half the time.
        subprocess.Popen(
            [sys.executable, "-I", "-S", str(RUNNER), str(self._path(job_id))],
            env={**clean_environment(), "ORCH_JOB_ID": job_id},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """The states that the runners keep; a runner that vanished is a failed job."""
        found = {}
        for job_id in job_ids:
            job = self._read(job_id)
            if job:
                found[job_id] = _status(job)
        return found

    def mine(self, name: str = "") -> dict[str, JobStatus]:
        """All jobs (of that name) that were ever run in this output directory."""
        found = self.statuses(path.stem for path in self._folder.glob(f"{PREFIX}*.json"))
        return {job_id: job for job_id, job in found.items() if name in ("", job.name)}

    def explain(self, reason: str, _job_id: str) -> Reason:
        """Nothing is waited for but the job's own runner."""
        return Reason(Outlook.ITSELF, reason or "its runner is about to begin")

    def cancelled_by(self, job_id: str) -> str:
        """Not known: nobody writes it down."""
        return ""

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Tell the runners; when a runner has vanished, end what it left."""
        for job_id in job_ids:
            job = self._started(job_id)
            if not job or _status(job).over:
                self._end_orphans(job)
            else:
                _signal(job["runner_pid"], signal.SIGTERM)

    def close(self) -> None:
        """Nothing is ever under way."""

    def _started(self, job_id: str) -> LocalJob:
        """The job once its runner has signed in, which takes it a moment."""
        deadline = time.monotonic() + RUNNER_START_S
        while (job := self._read(job_id)).get("state") == "PENDING":
            if time.monotonic() > deadline:
                return {}
            time.sleep(0.02)
        return job

    def _end_orphans(self, job: LocalJob) -> None:
        if job.get("state") == "RUNNING" and _is_session_of(job):
            try:
                os.killpg(job["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _read(self, job_id: str) -> LocalJob:
        try:
            job: LocalJob = json.loads(self._path(job_id).read_text())
        except (OSError, ValueError):
            return {}
        return job

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"


def _number(stem: str) -> int:
    digits = stem.removeprefix(PREFIX)
    return int(digits) if digits.isdigit() else 0


def _status(job: LocalJob) -> JobStatus:
    state = job["state"]
    if state == "RUNNING" and not _runner_lives(job):
        return JobStatus("NODE_FAIL", "its runner was killed", name=job["name"])
    left = job["time_seconds"] + job.get("started", time.time()) - time.time()
    return JobStatus(
        state,
        job.get("reason", ""),
        os.uname().nodename,
        job.get("started"),
        int(left),
        job["name"],
    )


def _runner_lives(job: LocalJob) -> bool:
    """Whether the runner still runs, and is not another process with a number used again."""
    return start_time(int(job["runner_pid"])) == str(job["runner_start"])


def _is_session_of(job: LocalJob) -> bool:
    pid = int(job["pid"])
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        # The leader is gone; its group may still have members.
        return True


def start_time(pid: int) -> str:
    """When the process `pid` started, in clock ticks since boot; "" when there is none.

    From /proc/PID/stat, field 22 (proc(5)); field 2 may hold blanks and parentheses. A zombie
    has ended. When there is no /proc, a process that exists counts as started at "?".
    """
    if not Path("/proc/self/stat").exists():
        return "?" if _signal(pid, 0) else ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _signal(pid: int, signum: int) -> bool:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True
