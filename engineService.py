"""Engines that need no room of their own: one job that serves one model, a GGUF file."""

from __future__ import annotations

from collections.abc import Iterable

from engines.deployed import Deployed
from engines.registry import DEPLOYED
from hpc.deployment import Deployment
from hpc.service import Service
from hpc.serving import engine_service, job_of, submit_engine


def setup_engine(data: Deployment, engine: Deployed) -> str:
    """Render and submit the job of `engine`. Returns its job id, "" if `data` has none.

    Raises SchedulerError if the scheduler refuses the job.
    """
    job, weights = job_of(data.plan, engine), data.plan.weights
    if job is None:
        return ""
    files = [weights] if weights else []
    return submit_engine(data, engine, job, files, weights=weights, title=engine.title)


def _service(engine: Deployed) -> Service:
    return engine_service(engine, lambda data: setup_engine(data, engine))


def services(rooms: Iterable[str]) -> list[Service]:
    """The service of each engine but those that have `rooms` of their own."""
    return [_service(engine) for engine in DEPLOYED.values() if engine.service not in rooms]
