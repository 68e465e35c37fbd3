"""How deployments are, as the scheduler says and their jobs have left it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from contracts.errors import SchedulerError, UsageError
from contracts.job_files import IDLE, not_told, read_idle
from contracts.jobs.states import GONE, JobStatus
from hpc.deployments.chain import Chain, progress, state_after, take_up
from hpc.deployments.ends import Ends
from hpc.deployments.facts import Endpoints
from hpc.deployments.jobs import adopt, scheduler_of
from hpc.deployments.on_request import passing_engine, take_up_engine
from hpc.deployments.records import Record, find_record, load_records
from hpc.endpoints import BadAddressFile, OutputDir
from hpc.scheduler.interface import Scheduler


def refresh(records: Sequence[Record], output: OutputDir) -> None:
    """Correct the records' states by what the scheduler says: one call for each kind of it.

    Notes in each record whether it was `checked`. Raises SchedulerError, after all the rest has
    been checked, when a scheduler does not answer.
    """
    problem = None
    live = [record for record in records if record.live]
    for record in records:
        record.note(checked=not record.live, not_told=not_told(output.path, record.id))
    for record in live:
        take_up(record, output)
        take_up_engine(record, output)
    for ours in _by_scheduler(live):
        try:
            statuses = _ask(scheduler_of(ours, output), ours)
        except SchedulerError as error:
            problem = error
            continue
        for record in ours:
            _refresh(record, statuses, output)
            record.note(checked=True)
    for record in live:
        if record.batch is not None:
            record.note(batch=progress(record))
        if record.chain is not None:
            record.note(handover=Chain(output.path, record.id).handover)
    if problem is not None:
        raise problem


def _by_scheduler(records: Sequence[Record]) -> list[list[Record]]:
    """Deployments that one scheduler was given, together."""
    found: dict[str, list[Record]] = {}
    for record in records:
        which = [record.scheduler, record.controller, record.clusters]
        found.setdefault(json.dumps(which, sort_keys=True), []).append(record)
    return list(found.values())


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
    over: dict[str, str] = {}
    lost = False
    jobs, ends = record.jobs, Ends(record, output)
    for service, job_id in jobs.items():
        status = statuses.get(job_id, GONE)
        ended = ends.words(service, status)
        details[service] = ended or ("not known" if status is GONE else status.state)
        if ended:
            over[service] = ended
        lost |= ended is None and status is GONE
    # An engine that is there while somebody asks may end between two looks at whether it has.
    if over and record.state != "submitting" and list(over) != [passing_engine(record)]:
        _write_down(record, details, list(over.values()), output)
    record.note(job_states=details)
    if record.live:
        _follow_moved(record, output)
        idle = read_idle(output.path, record.id)
        record.note(idle=None if idle is None else idle.as_facts())
    if lost:
        record.note(state="lost")  # asked from another shell it may be found again
    lefts = [s.left_s for j in jobs.values() if (s := statuses.get(j)) and s.state == "RUNNING"]
    record.note(seconds_left=min((left for left in lefts if left is not None), default=None))


def _follow_moved(record: Record, output: OutputDir) -> None:
    """What was begun again, or requeued, may be at another port, or on another node, than the
    record has; and Qdrant's next job is there later than the others."""
    for service, before in record.endpoints.items():
        if service == "qdrant" and before is None:
            before = "http://"  # of a next job: it is there later than the others, never by TLS
        if not before or service not in record.jobs:
            continue
        job, urls = record.jobs[service], [before] if isinstance(before, str) else before
        scheme = urls[0].partition("://")[0]
        now = [f"{scheme}://{address}" for address in _addresses(output, service, job)]
        if len(now) != len(urls) or now == urls:
            continue
        single = isinstance(before, str)
        endpoints: Endpoints = {**record.endpoints, service: now[0] if single else now}
        record.update(endpoints=endpoints, **({} if single else output.replicas(job, now)))


def _addresses(output: OutputDir, service: str, job: str) -> list[str]:
    try:
        return output.addresses(service, job)
    except BadAddressFile:  # whoever asks the replicas says so
        return []


def _write_down(
    record: Record, details: dict[str, str], over: Sequence[str], output: OutputDir
) -> None:
    end = Chain(output.path, record.id).end
    if len(over) < len(details):
        record.update(state="degraded" if end is None else "stopping", job_states=details)
        return
    if take_up(record, output, over=True):  # while we asked for those before
        return
    good = all(
        "time limit" in d or d.startswith(f"ended: {IDLE}") or d in ("TIMEOUT", "COMPLETED")
        for d in over
    )
    state = "ended" if good else "failed"
    if end is not None:
        state = state_after(end)
        if state != "ended":
            record.update(error=end.reason)
    record.update(state=state, job_states=details)
    if record.batch is not None:
        record.update(batch=progress(record))
    for job_id in record.jobs.values():
        output.forget(job_id)


def live_record(deployment_id: str, output: OutputDir) -> Record:
    """The deployment of that id, or the newest one that lives, as the scheduler says: which one
    --attach and --ingest go on with.

    Raises UsageError when there is none.
    """
    record = chosen_record(deployment_id, output)
    refresh([record], output)
    assert_live(record)
    return record


def chosen_record(deployment_id: str, output: OutputDir) -> Record:
    """The deployment of that id, or the newest one that lives by its record. Raises UsageError when
    there is none."""
    if deployment_id:
        return find_record(output.path, deployment_id)
    live = [record for record in load_records(output.path) if record.live]
    if not live:
        raise UsageError(f"no deployment in {output.path} is live; start one with a recipe.")
    return live[-1]


def assert_live(record: Record) -> None:
    """Raises UsageError if the deployment has ended."""
    if not record.live:
        raise UsageError(f"{record.id} is {record.state}; start a new deployment with a recipe.")
