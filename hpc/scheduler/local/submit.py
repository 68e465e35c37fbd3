"""Submits a script of a deployment once more, for a job that is to be followed by another one:
`python3 -m hpc.scheduler.local.submit OUTPUT TIME_LIMIT_SECONDS SCRIPT [ARGUMENT...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hpc.scheduler.interface import Submission
from hpc.scheduler.local.processes import LocalScheduler


def submit(output: Path, limit_s: int, script: Path, arguments: Sequence[str]) -> str:
    """Start it as a job of its own, named as the script is (ID.SERVICE), and return its id."""
    service = script.stem.rpartition(".")[2]
    logs = output / "logs"
    job = Submission(
        name=script.stem,
        service=service,
        script=script,
        stdout=str(logs / f"{service}_%j.out"),
        stderr=str(logs / f"{service}_%j.err"),
        time_seconds=limit_s,
    )
    return LocalScheduler(output).submit(job, arguments)


if __name__ == "__main__":
    job_id = submit(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    sys.stdout.write(f"{job_id}\n")
