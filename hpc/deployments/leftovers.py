"""Address and target files of jobs that are no more."""

from __future__ import annotations

from contracts.errors import SchedulerUnavailable
from contracts.jobs.ids import number_of
from contracts.jobs.states import GONE, JobStatus
from hpc.deployments.ends import Ends
from hpc.deployments.records import Record, load_records
from hpc.endpoints import OutputDir
from hpc.scheduler.interface import Scheduler
from hpc.scheduler.kind import Kind

#: The deployment that a job is of, and its service.
Owner = tuple[Record, str]


def clear_dead_files(
    output: OutputDir, scheduler: Scheduler, kind: Kind, ours: set[str]
) -> list[str]:
    """Remove address and target files of jobs that have ended; returns their numbers.

    Only files of this kind of scheduler are judged, and none when it does not answer; `ours` are
    known to live. What a job left of which nobody has seen the end stays.
    """
    living = set(map(number_of, ours))
    numbers = [n for n in output.files_of_jobs() if kind.gave(n) and n not in living]
    if not numbers:
        return []
    owners = _owners(output)
    job_ids = {n: _owned_id(owners[n]) if n in owners else n for n in numbers}
    try:
        statuses = scheduler.statuses(job_ids.values())
    except SchedulerUnavailable:
        return []
    found = {n: statuses.get(job_id, GONE) for n, job_id in job_ids.items()}
    all_known = kind.this_machine  # what is not known here is known nowhere
    dead = [n for n in numbers if _is_dead(n, found[n], owners.get(n), output, all_known)]
    for number in dead:
        output.forget(number)
    return dead


def _owners(output: OutputDir) -> dict[str, Owner]:
    """Who submitted a job, by its number: the last one, if clusters gave the same number."""
    records = load_records(output.path)
    return {number_of(j): (record, s) for record in records for s, j in record.jobs.items()}


def _owned_id(owner: Owner) -> str:
    record, service = owner
    return record.jobs[service]


def _is_dead(
    number: str, status: JobStatus, owner: Owner | None, output: OutputDir, all_known: bool
) -> bool:
    if owner is None:  # submitted by hand
        return status.over or (
            status is GONE and (all_known or output.exit_status(number) is not None)
        )
    record, service = owner
    ours = record.names[record.jobs[service]]
    if ours and status.name and status.name != ours:
        status = GONE  # another job has its number now
    return (status is GONE and all_known) or Ends(record, output).words(service, status) is not None
