"""--status, --stop and --logs: usable from any shell, checked against the scheduler."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from hpc.console import Console, columns
from hpc.endpoints import OutputDir
from hpc.errors import SchedulerError, SchedulerUnavailable, UsageError
from hpc.files import PROJECT
from hpc.jobstates import GONE, JobStatus
from hpc.recipe import validate
from hpc.records import Record
from hpc.scheduler import Scheduler, open_scheduler
from hpc.site import Site
from hpc.timelimit import format_time

#: Slurm kills what ignores SIGTERM after KillWait (30 s by default); some more for the clean-up.
STOP_TIMEOUT_S = 60.0
#: Nobody who stops a deployment waits longer for what is nice to have.
SAVE_TIMEOUT_S = 10.0


def scheduler_of(record: Record, output: OutputDir) -> Scheduler:
    """The scheduler that a deployment was submitted to."""
    site = validate(Site, record.data["site"], "the deployment's site profile")
    return open_scheduler(site, output.path)


def stop(record: Record, scheduler: Scheduler, output: OutputDir, state: str = "stopped") -> None:
    """Cancel the deployment's jobs, wait until they are gone, remove what they left.

    `state` is what the record says afterwards. Raises SchedulerError where jobs do not go.
    """
    if record.state == "submitting":
        adopt([record], scheduler.mine())
        record.update(jobs=record.data["jobs"])
    _save_metrics(record, output)
    job_ids = list(record.jobs.values())
    if job_ids:
        scheduler.cancel(job_ids)  # first: a full disk must not keep jobs alive
        record.update(state="stopping")
        _wait_until_over(job_ids, scheduler)
    for job_id in job_ids:
        output.forget(job_id)
    record.update(state=state)


def _save_metrics(record: Record, output: OutputDir) -> None:
    """Have Prometheus's figures of the benchmark's time saved, if its own end could not do it."""
    folder = Path((record.data.get("benchmark") or {}).get("folder") or "/nonexistent")
    job_id = record.jobs.get("monitoring")
    if job_id is None or not (folder / "summary.json").exists():
        return
    address = output.monitoring_addresses(job_id).get("prometheus")
    if address is None or (folder / "metrics.json").exists():
        return
    command = [sys.executable, "-m", "loadgen", "snapshot", str(folder)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [*command, f"--prometheus=http://{address}"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SAVE_TIMEOUT_S,
            check=False,
        )


def adopt(records: Iterable[Record], jobs: Mapping[str, JobStatus]) -> None:
    """Add to each record in memory the jobs of its names that were not written down.

    A run that is killed, or whose controller hangs, may leave a job that Slurm has taken.
    """
    for record in records:
        known = set(record.jobs.values())
        for job_id, status in jobs.items():
            deployment, _, service = status.name.rpartition(".")
            if deployment == record.id and job_id not in known and not status.over:
                record.data["jobs"].setdefault(service, {"id": job_id, "name": status.name})


def _wait_until_over(job_ids: Sequence[str], scheduler: Scheduler) -> None:
    """Ask with growing pauses: most jobs are gone within a second."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    pause = 0.05
    while True:
        statuses = scheduler.statuses(job_ids)
        left = [j for j in job_ids if j in statuses and not statuses[j].over]
        if not left:
            return
        if time.monotonic() > deadline:
            raise SchedulerError(
                f"job {', '.join(left)} does not end {STOP_TIMEOUT_S:.0f} s after it was "
                "cancelled; try again, and tell the administrators if it stays."
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 5.0)


def stop_many(records: Iterable[Record], output: OutputDir, console: Console) -> None:
    """Stop each deployment that is live, and say so. Raises SchedulerError at the first failure."""
    live = [record for record in records if record.live]
    for record in live:
        stop(record, scheduler_of(record, output), output)
        console.tell("orch", f"{record.id} is stopped: {_jobs_in_words(record)}")
    if not live:
        console.tell("orch", "nothing to stop")


def _jobs_in_words(record: Record) -> str:
    jobs = ", ".join(f"{service} job {job_id}" for service, job_id in record.jobs.items())
    return f"{jobs} cancelled; logs, models and results are kept" if jobs else "it had no jobs"


def refresh(records: Sequence[Record], output: OutputDir) -> None:
    """Correct the records' states by what the scheduler says: one call for each kind of it.

    Sets `checked` in each record's data. Raises SchedulerError, after all the rest has been
    checked, where a scheduler does not answer.
    """
    problem = None
    live = [record for record in records if record.live]
    for record in records:
        record.data["checked"] = not record.live
    for kind in {str(record.data["site"]["scheduler"]) for record in live}:
        ours = [record for record in live if record.data["site"]["scheduler"] == kind]
        try:
            statuses = _ask(scheduler_of(ours[0], output), ours)
        except SchedulerError as error:
            problem = error
            continue
        for record in ours:
            _refresh(record, statuses, output)
            record.data["checked"] = True
    if problem is not None:
        raise problem


def _ask(scheduler: Scheduler, records: Sequence[Record]) -> dict[str, JobStatus]:
    """The statuses of all jobs of the records, as a rule in one call.

    Jobs that were submitted and not written down can be found among all of the user's.
    """
    found: dict[str, JobStatus] = {}
    submitting = [record for record in records if record.state == "submitting"]
    if submitting:
        found = scheduler.mine()
        adopt(submitting, found)
    rest = [j for record in records for j in record.jobs.values() if j not in found]
    return {**found, **scheduler.statuses(rest)} if rest else found


def _refresh(record: Record, statuses: dict[str, JobStatus], output: OutputDir) -> None:
    details: dict[str, str] = {}
    over = []
    jobs = record.jobs
    for service, job_id in jobs.items():
        status = statuses.get(job_id, GONE)
        ended = output.ended(job_id) if status.over or status is GONE else None
        details[service] = f"ended: {ended.reason}" if ended else status.state
        if status.over or status is GONE:
            over.append(details[service])
    if over and record.state != "submitting":
        _write_down(record, details, over, output)
    record.data["job_states"] = details
    lefts = [s.left_s for j in jobs.values() if (s := statuses.get(j)) and s.state == "RUNNING"]
    record.data["seconds_left"] = min((left for left in lefts if left is not None), default=None)


def _write_down(
    record: Record, details: dict[str, str], over: Sequence[str], output: OutputDir
) -> None:
    if len(over) < len(details):
        record.update(state="degraded", job_states=details)
        return
    good = all("time limit" in d or d in ("TIMEOUT", "COMPLETED") for d in over)
    record.update(state="ended" if good else "failed", job_states=details)
    for job_id in record.jobs.values():
        output.forget(job_id)


def status_lines(records: Sequence[Record]) -> list[str]:
    """One line for each deployment, newest last; times as D-HH:MM:SS."""
    if not records:
        return ["no deployments"]
    rows = [["deployment", "state", "age", "left", "jobs", "endpoints"]]
    return columns([*rows, *map(_status_row, records)])


def _status_row(record: Record) -> list[str]:
    states = record.data.get("job_states") or {}
    jobs = ", ".join(f"{s} {i} {states.get(s, '')}".strip() for s, i in record.jobs.items())
    age = time.time() - datetime.fromisoformat(record.data["created"]).timestamp()
    left = record.data.get("seconds_left") if record.live else None
    at = record.data["endpoints"] if record.live else {"client": None, "ollama": []}
    return [
        record.id,
        record.state + ("" if record.data.get("checked", True) else " (unchecked)"),
        format_time(int(max(age, 0))),
        "-" if left is None else format_time(left),
        jobs or "-",
        " ".join(filter(None, [at["client"], *at["ollama"]])) or "-",
    ]


def clear_dead_files(
    output: OutputDir, scheduler: Scheduler, local: bool, ours: set[str]
) -> list[str]:
    """Remove address and target files of jobs that are over; returns their job ids.

    Only files of this kind of scheduler are judged, and none where it does not answer; `ours` are
    known to live.
    """
    files = output.files_of_jobs()
    job_ids = [job_id for job_id in files if job_id.isdigit() != local and job_id not in ours]
    if not job_ids:
        return []
    try:
        statuses = scheduler.statuses(job_ids)
    except SchedulerUnavailable:
        return []
    dead = [j for j in job_ids if statuses.get(j, GONE) is GONE or statuses[j].over]
    for job_id in dead:
        output.forget(job_id)
    return dead


def log_paths(record: Record, output: OutputDir, service: str | None) -> list[Path]:
    """The log files of a deployment, or of one service of it. Raises UsageError."""
    if service is not None and service not in record.jobs:
        known = ", ".join(record.jobs) or "none"
        raise UsageError(f"{record.id} has no service {service!r}; it has: {known}.")
    chosen = {s: j for s, j in record.jobs.items() if service in (None, s)}
    paths = [output.log(s, j, stream) for s, j in chosen.items() for stream in ("out", "err")]
    return [path for path in paths if path.exists()]
