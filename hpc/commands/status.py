"""--status: how deployments and campaigns are."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from contracts.errors import SchedulerError
from contracts.job_files import IdleState, read_idle
from contracts.json_object import JsonObject
from hpc.console import Console, columns
from hpc.deployments.records import Record, find_record, load_records
from hpc.deployments.refreshing import refresh
from hpc.endpoints import OutputDir
from hpc.times import format_time

if TYPE_CHECKING:
    from hpc.deployments.facts import BatchFacts, ChainFacts


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Print a line, or with --json the record, of each deployment, or of the one that is named; and
    a line of each campaign.

    Raises SchedulerError, once all is printed, when a scheduler does not answer.
    """
    records = (
        [find_record(output.path, given.status)] if given.status else load_records(output.path)
    )
    problem = None
    try:
        refresh(records, output)
    except SchedulerError as error:
        problem = error
    if given.json:
        console.json([record.as_json() for record in records])
    else:
        named = bool(given.status)
        shown = [record for record in records if named or record.live]
        rest = replica_lines(records) if named else _campaign_lines(output)
        course = [*batch_lines(shown), *handover_lines(shown), *idle_lines(shown, output)]
        more = [*course, *told_lines(shown), *rest]
        for line in [*status_lines(records), *more]:
            console.say(line)
    if problem is not None:
        raise SchedulerError(f"{problem.message}; what is unchecked is as it was last recorded.")


def _campaign_lines(output: OutputDir) -> list[str]:
    if not (output.path / "campaigns").is_dir():
        return []
    from hpc.campaigns.known import campaign_lines  # most have none

    return campaign_lines(output)


def status_lines(records: Sequence[Record]) -> list[str]:
    """One line for each deployment, newest last; times as D-HH:MM:SS."""
    if not records:
        return ["no deployments"]
    rows = [["deployment", "state", "age", "left", "jobs", "endpoints"]]
    return columns([*rows, *map(_status_row, records)])


def batch_lines(records: Sequence[Record]) -> list[str]:
    """One line for each batch: how far it is, and the jobs that have worked on it."""
    return [
        f"  {record.id}: {_batch_words(batch)}" for record in records if (batch := record.batch)
    ]


def handover_lines(records: Sequence[Record]) -> list[str]:
    """One line for each deployment whose jobs follow one another: how the hand-over stands."""
    found = ((record, record.chain, record.as_json().get("handover")) for record in records)
    return [f"  {r.id}: {_handover_words(chain, now)}" for r, chain, now in found if chain and now]


def _handover_words(chain: ChainFacts, now: JsonObject) -> str:
    most = f" of at most {chain['max_jobs']}" if chain.get("max_jobs") else ""
    words = f"job {now.get('job')}{most} until {_clock(now.get('ends'))}, {_phase(now)}"
    dark = now.get("dark_s")
    words += f"; dark for {format_time(dark)} then" if isinstance(dark, int) else ""
    return f"{words}; {now['problem']}" if now.get("problem") else words


def _phase(now: JsonObject) -> str:
    next_ids, phase = now.get("successor"), str(now.get("phase"))
    named = f" {next_ids.get('client')}" if isinstance(next_ids, dict) else ""
    due = now.get("submit_at")
    return {
        "serving": f"the next one is submitted at {_clock(due)}" if due else "none comes after it",
        "submitted": f"the next one{named} waits, to serve at {_clock(now.get('expected'))}",
        "waiting": f"the next one{named} loads its model",
    }.get(phase, f"the next one{named} serves at {now.get('address')}")


def _clock(at: object) -> str:
    """Of seconds since 1970, the local time."""
    if not isinstance(at, int):
        return "a time not known"
    return f"{datetime.fromtimestamp(at):%m-%d %H:%M:%S}"


def _batch_words(batch: BatchFacts) -> str:
    jobs = [one["client"] for one in batch.get("jobs", []) if "client" in one]
    chain = f" (client jobs {', '.join(jobs)})" if jobs else ""
    lines = (
        f", {batch['completed']} of {batch['total']} lines are answered, {batch['failed']} have "
        "failed"
        if batch.get("total")
        else ""
    )
    return (
        f"batch {batch['output']}: {batch.get('state', 'waiting')}{lines}; "
        f"job {batch['job']} of at most {batch['max_jobs']}{chain}"
    )


def idle_lines(records: Sequence[Record], output: OutputDir) -> list[str]:
    """One line for each deployment that ends, or sleeps, when nobody asks: how that stands."""
    states = {record.id: read_idle(output.path, record.id) for record in records if record.live}
    return [f"  {name}: {_idle_words(state)}" for name, state in states.items() if state]


def _idle_words(idle: IdleState) -> str:
    if idle.ends is None:
        waking = idle.state == "waking"
        return "waking: its engine is on its way" if waking else "sleeping: nobody asks"
    left, limit = max(0, round(idle.ends - time.time())), format_time(round(idle.timeout_s))
    return f"ends in {format_time(left)} unless somebody asks (idle_timeout {limit})"


def told_lines(records: Sequence[Record]) -> list[str]:
    """One line for each who could not be told how a deployment is."""
    return [
        f"  {record.id}: {line}"
        for record in records
        for line in record.as_json().get("not_told", [])
    ]


def replica_lines(records: Sequence[Record]) -> list[str]:
    """One line for each of several replicas on a node: what it has there."""
    several = [one for record in records for one in record.replicas]
    if not several:
        return []
    from hpc.following.report import share_of  # slow to import, and most have none

    return [f"  {one['url']}   {share_of(one)}" for one in several]


def _status_row(record: Record) -> list[str]:
    states = record.job_states
    jobs = ", ".join(f"{s} {i} {states.get(s, '')}".strip() for s, i in record.jobs.items())
    age = time.time() - record.created.timestamp()
    left = record.seconds_left if record.live else None
    urls = [record.client, *record.engines] if record.live else []
    return [
        record.id,
        record.state + ("" if record.checked else " (unchecked)"),
        format_time(int(max(age, 0))),
        "-" if left is None else format_time(left),
        jobs or "-",
        " ".join(filter(None, urls)) or "-",
    ]
