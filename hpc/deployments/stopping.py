"""Stopping a deployment: its jobs are cancelled, and seen to end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence

from contracts.errors import SchedulerError, SchedulerUnavailable
from contracts.files import PROJECT, FileError, remove_whole
from contracts.job_files import idle_file, monitoring_login
from hpc.deployments.chain import Chain, follows, progress, take_up
from hpc.deployments.ends import Ends
from hpc.deployments.jobs import adopt
from hpc.deployments.on_request import comes_and_goes, take_up_engine
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
    if follows(record) or comes_and_goes(record):
        _forbid_successors(record, scheduler, output)
    if record.state == "submitting":
        adopt([record], scheduler.mine())
        record.save_jobs()
    _save_metrics(record, output)
    job_ids = list(record.jobs.values())
    if job_ids:
        scheduler.cancel(job_ids)  # first: a full disk must not keep jobs alive
        record.update(state="stopping")
        _wait_until_over(record, scheduler, Ends(record, output))
    if follows(record):
        _end_successors(record, scheduler, output)
    if comes_and_goes(record):
        _end_last_engine(record, scheduler, output)
    with contextlib.suppress(OSError):  # as a rule the client's job has removed it
        remove_whole(idle_file(output.path, record.id))
    record.update(state=state)
    if record.batch is not None:
        record.update(batch=progress(record))


def _forbid_successors(record: Record, scheduler: Scheduler, output: OutputDir) -> None:
    """No job comes after it: those that are submitted are cancelled first, so that none of
    them begins when the one before it ends."""
    with contextlib.suppress(FileError):  # a full disk must not keep jobs alive
        Chain(output.path, record.id).ask_to_stop()
        take_up(record, output)
        take_up_engine(record, output)
    if record.live:
        scheduler.cancel(_not_recorded(record, scheduler).values())


def _end_successors(record: Record, scheduler: Scheduler, output: OutputDir) -> None:
    """One may have been submitted while those before it were told to end; and those before those
    that serve may not have ended yet."""
    served = record.jobs
    while found := _not_recorded(record, scheduler):
        record.succeed({**record.jobs, **found})
        scheduler.cancel(found.values())
        _wait_until_over(record, scheduler, Ends(record, output))
    if record.chain is not None and record.jobs != served:
        record.succeed(served)
    # All of them are over; one whose node died with it has removed nothing.
    for job_id in Chain(output.path, record.id).job_ids:
        output.forget(job_id)


def _end_last_engine(record: Record, scheduler: Scheduler, output: OutputDir) -> None:
    """Likewise, by the last request."""
    while found := _not_recorded(record, scheduler):
        for service, job_id in found.items():
            record.add_job(service, job_id, f"{record.id}.{service}")
        scheduler.cancel(found.values())
        _wait_until_over(record, scheduler, Ends(record, output))


def _not_recorded(record: Record, scheduler: Scheduler) -> dict[str, str]:
    """Jobs of a deployment's names, by service, that are none of its record's and not over."""
    ours = set(record.jobs.values())
    return {
        status.name.rpartition(".")[2]: job_id
        for job_id, status in scheduler.mine().items()
        if status.name.rpartition(".")[0] == record.id and job_id not in ours and not status.over
    }


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
