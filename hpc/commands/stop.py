"""--stop: deployments end, and nothing of theirs runs on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from contracts.errors import SchedulerError
from hpc.console import Console
from hpc.deployments.jobs import scheduler_of
from hpc.deployments.records import Record, find_record, load_records
from hpc.deployments.stopping import stop
from hpc.endpoints import OutputDir


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Stop the deployment that is named, or all of them. Raises SchedulerError."""
    every = given.stop == "all"
    records = load_records(output.path) if every else [find_record(output.path, given.stop)]
    stop_many(records, output, console)
    if given.json:
        console.json([record.as_json() for record in records])


def stop_many(records: Iterable[Record], output: OutputDir, console: Console) -> None:
    """Stop each deployment that is live, and say so. Raises the first SchedulerError, once the
    others have had their turn."""
    live = [record for record in records if record.live]
    problems = []
    for record in live:
        try:
            stop(record, scheduler_of([record], output), output)
        except SchedulerError as error:
            problems.append(error)
        else:
            console.tell("orch", f"{record.id} is stopped: {_jobs_in_words(record)}")
    if not live:
        console.tell("orch", "nothing to stop")
    if problems:
        first, *others = problems
        raise type(first)(first.message, [*first.details, *(other.message for other in others)])


def _jobs_in_words(record: Record) -> str:
    jobs = ", ".join(f"{service} job {job_id}" for service, job_id in record.jobs.items())
    return f"{jobs} cancelled; logs, models and results are kept" if jobs else "it had no jobs"
