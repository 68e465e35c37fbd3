"""Engines that need no room of their own: one job that serves one model, a GGUF file."""

from __future__ import annotations

from collections.abc import Iterable

from engines.servers.deployable import DEPLOYED
from engines.servers.deployed import Deployed
from engines.servers.options import text_of
from hpc.deployment import Deployment
from hpc.recipe.schema import Service as Served
from hpc.recipe.values import is_model_path
from hpc.service import Service
from hpc.serving import engine_service, job_of, submit_engine


def setup_engine(data: Deployment, engine: Deployed) -> str:
    """Render and submit the job of `engine`. Returns its job id, "" if `data` has none.

    Raises SchedulerError if the scheduler refuses the job.
    """
    job, weights = job_of(data.plan, engine), data.plan.weights
    if job is None:
        return ""
    service = data.plan.recipe.job.service
    return submit_engine(
        data,
        engine,
        job,
        weights=weights,
        # Of a name its job knows where that is to be had.
        hub_name="" if is_model_path(service.model) else service.model,
        arguments=list(engine.arguments(_asked(service, engine))),
        variables=[f"{name}={text_of(value)}" for name, value in service.variables.items()],
    )


def _asked(service: Served, engine: Deployed) -> dict[str, object]:
    """The options that the recipe gives, by their names there."""
    asked = {
        "precision": service.precision if "precision" in engine.options.keys else None,
        "flash_attention": service.with_flash_attention,
        "kv_cache_type": service.kv_cache_type,
        "num_batch": service.num_batch,
        "use_mmap": service.use_mmap,
        **service.defaults,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _service(engine: Deployed) -> Service:
    return engine_service(engine, lambda data: setup_engine(data, engine))


def services(rooms: Iterable[str]) -> list[Service]:
    """The service of each engine but those that have `rooms` of their own."""
    return [_service(engine) for engine in DEPLOYED.values() if engine.service not in rooms]
