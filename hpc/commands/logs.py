"""--logs: what the jobs of a deployment have written."""

from __future__ import annotations

import argparse
from pathlib import Path

from contracts.errors import UsageError
from hpc.console import Console
from hpc.deployments.records import Record, find_record
from hpc.endpoints import OutputDir


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Print the logs of a deployment, or of one service of it. Raises UsageError."""
    if len(given.logs) > 2:
        raise UsageError("--logs takes a deployment and at most one service.")
    deployment_id, service = [*given.logs, None][:2]
    for path in log_paths(find_record(output.path, deployment_id), output, service):
        console.say(f"==> {path} <==")
        console.say(path.read_text(errors="replace").rstrip("\n"))


def log_paths(record: Record, output: OutputDir, service: str | None) -> list[Path]:
    """The log files of a deployment, or of one service of it. Raises UsageError."""
    if service is not None and service not in record.jobs:
        known = ", ".join(record.jobs) or "none"
        raise UsageError(f"{record.id} has no service {service!r}; it has: {known}.")
    chosen = {s: j for s, j in record.jobs.items() if service in (None, s)}
    paths = [output.log(s, j, stream) for s, j in chosen.items() for stream in ("out", "err")]
    return [path for path in paths if path.exists()]
