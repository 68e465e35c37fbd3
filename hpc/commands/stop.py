"""--stop: deployments end, and nothing of theirs runs on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from contracts.errors import SchedulerError
from contracts.files import FileError
from hpc.console import Console
from hpc.deployments.jobs import scheduler_of
from hpc.deployments.records import Record, find_record, load_records
from hpc.deployments.stopping import stop
from hpc.endpoints import OutputDir


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Stop the deployment that is named, those of the campaign that is named, or all of them.
    Raises SchedulerError."""
    records = _named(given.stop, output, console)
    stop_many(records, output, console)
    if given.json:
        console.json([record.as_json() for record in records])


def _named(name: str, output: OutputDir, console: Console) -> list[Record]:
    if name == "all":
        return load_records(output.path)
    if "/" in name or not (output.path / "campaigns" / name).is_dir():
        return [find_record(output.path, name)]
    from hpc.campaigns.known import deployments_of, end_command  # most are no campaign's

    if end_command(output, name):
        console.tell("orch", f"the command that carried campaign {name} out has ended")
    return deployments_of(output, name)


def stop_many(records: Iterable[Record], output: OutputDir, console: Console) -> None:
    """Stop each deployment that is live, and say so. Raises the first SchedulerError or FileError,
    once the others have had their turn."""
    live = [record for record in records if record.live]
    problems: list[SchedulerError | FileError] = []
    for record in live:
        try:
            stop(record, scheduler_of([record], output), output)
        except (SchedulerError, FileError) as error:
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
