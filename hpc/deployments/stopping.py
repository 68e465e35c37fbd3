"""Stopping a deployment: its jobs are cancelled, and seen to end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence

from contracts.errors import SchedulerError, SchedulerUnavailable
from contracts.files import PROJECT
from contracts.job_files import monitoring_login
from hpc.deployments.ends import Ends
from hpc.deployments.jobs import adopt
from hpc.deployments.records import Record
from hpc.endpoints import OutputDir
from hpc.scheduler.interface import Scheduler

#: Slurm kills what ignores SIGTERM after KillWait (30 s by default); some more for the clean-up.
STOP_TIMEOUT_S = 60.0
#: A job that the scheduler does not know may be about to write down its end; accounting lags, too.
UNKNOWN_PATIENCE_S = 5.0
#: Nobody who stops a deployment waits longer for what is nice to have.
SAVE_TIMEOUT_S = 10.0


def stop(record: Record, scheduler: Scheduler, output: OutputDir, state: str = "stopped") -> None:
    """Cancel the deployment's jobs, wait until they are seen to have ended, remove what they left.

    `state` is what the record says afterwards. Raises SchedulerError naming the jobs that do not
    end, or of which that cannot be told.
    """
    if record.state == "submitting":
        adopt([record], scheduler.mine())
        record.save_jobs()
    _save_metrics(record, output)
    job_ids = list(record.jobs.values())
    if job_ids:
        scheduler.cancel(job_ids)  # first: a full disk must not keep jobs alive
        record.update(state="stopping")
        _wait_until_over(record, scheduler, Ends(record, output))
    record.update(state=state)


def _save_metrics(record: Record, output: OutputDir) -> None:
    """Have Prometheus's figures of the benchmark's time saved, if its own end could not do it."""
    folder = record.benchmark.folder if record.benchmark else None
    job_id = record.jobs.get("monitoring")
    if job_id is None or folder is None or not (folder / "summary.json").exists():
        return
    address = output.monitoring_addresses(job_id).get("prometheus")
    if address is None or (folder / "metrics.json").exists():
        return
    login = monitoring_login(output.path).header
    command = [sys.executable, "-m", "loadgen", "snapshot", str(folder)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [*command, f"--prometheus=http://{address}", f"--monitoring-login={login}"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SAVE_TIMEOUT_S,
            check=False,
        )


def _wait_until_over(record: Record, scheduler: Scheduler, ends: Ends) -> None:
    """Ask with growing pauses: most jobs have ended within a second."""
    begin, pause = time.monotonic(), 0.05
    while True:
        problem = None
        try:
            running, unknown = ends.split(scheduler.statuses(record.jobs.values()))
        except SchedulerUnavailable as error:
            problem, running, unknown = error, ends.without_answer(), []
        ends.forget([s for s in record.jobs if s not in (*running, *unknown)])
        passed = time.monotonic() - begin
        if not running and not unknown:
            return
        if not running and passed > UNKNOWN_PATIENCE_S:
            raise SchedulerError(ends.not_known(unknown))
        if passed > STOP_TIMEOUT_S:
            raise problem or _does_not_end(record, running)
        time.sleep(pause)
        pause = min(pause * 1.5, 5.0)


def _does_not_end(record: Record, services: Sequence[str]) -> SchedulerError:
    return SchedulerError(
        f"job {', '.join(record.jobs[service] for service in services)} does not end "
        f"{STOP_TIMEOUT_S:.0f} s after it was cancelled; try again, and tell the administrators if "
        "it stays."
    )
