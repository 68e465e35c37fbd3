"""--prepare: what compute nodes would fetch, fetched here, by the job scripts themselves."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Sequence

from contracts.errors import ServiceError
from contracts.job_files import forget_tokens
from hpc.commands.deploy import render_all
from hpc.console import Console
from hpc.deployment import Deployment
from hpc.endpoints import OutputDir
from hpc.planning.plan import Plan
from hpc.scheduler.registry import kind_of
from hpc.service import Service

#: The end of a failed fetch, for the message.
TAIL_LINES = 15


def prepare(plan: Plan, services: Sequence[Service], output: OutputDir, console: Console) -> None:
    """Run each rendered script with --prepare on this machine: images are made, the model pulled;
    nothing is submitted.

    Raises ServiceError, with the script's own words, when one cannot be had.
    """
    deployment = render_all(plan, services, output)
    for source, words in plan.remarks:
        console.tell(source, words)
    for service in [service.name for service in services if service.wanted(plan)]:
        job_id = f"prepare-{deployment.id}-{service}"
        try:
            _run(deployment, service, job_id, console)
        finally:
            _forget(output, job_id)
            forget_tokens(output.path, deployment.id)
    console.tell("orch", "all is prepared; nothing was submitted")


def _run(deployment: Deployment, service: str, job_id: str, console: Console) -> None:
    script = deployment.output.path / "scripts" / f"{deployment.id}.{service}.sh"
    kind = kind_of(deployment.plan.site.scheduler)
    environment = {**kind.environment(), "ORCH_JOB_ID": job_id}
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with subprocess.Popen(
        ["bash", os.fspath(script), "--prepare"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        with console.waiting(service, "its image, and its model"):
            try:
                for line in process.stdout:
                    tail.append(line.rstrip())
                    if f" {service}: " in line:  # what the script says itself, not Ollama's log
                        console.tell(service, line.partition(f" {service}: ")[2].rstrip())
            finally:
                process.terminate()  # of no effect if it has ended; else its trap cleans up
    if process.returncode != 0:
        exit_status = deployment.output.exit_status(job_id)
        reason = (
            exit_status.reason
            if exit_status and exit_status.reason
            else f"exit code {process.returncode}"
        )
        raise ServiceError(f"cannot prepare {service}: {reason}", list(tail))


def _forget(output: OutputDir, job_id: str) -> None:
    for ending in ("started", "rc", "image", "seal"):
        (output.path / "logs" / f"{job_id}.{ending}").unlink(missing_ok=True)
