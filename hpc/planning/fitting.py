"""The plan's line on memory: what its models take, and what a replica of it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from contracts.errors import UsageError
from engines.models.memory import DEFAULT_BATCH, Serving
from hpc.planning.memory import Room, judge, room_of_host, room_of_job, room_on_gpus
from hpc.planning.model_files import Found, find_model
from hpc.planning.plan import Plan
from hpc.scheduler.interface import Setting
from hpc.scheduler.registry import kind_of


def with_fit(plan: Plan) -> Plan:
    """The plan that knows where its models come from, with whether they fit."""
    return judged(plan, map(find_model, plan.origins)) if plan.origins else plan


def judged(plan: Plan, found: Iterable[Found]) -> Plan:
    """The plan, with whether the models fit of which that was found."""
    fit = judge(found, _serving(plan), _room(plan))
    noted = [setting for setting in plan.settings if setting.name != "memory"]
    settings = (*noted, Setting("memory", fit.line, fit.source))
    return replace(plan, fit=fit, settings=settings)


def require_fit(plan: Plan) -> None:
    """Raise UsageError if the recipe requires that its models fit, and they do not, or nobody can
    say it."""
    if plan.fit is None or not plan.recipe.job.service.require_fit or plan.fit.fits:
        return
    why = plan.fit.problem or f"nobody can say whether it fits: {plan.fit.unknown}"
    raise UsageError(
        f"the recipe requires that its model fits (job.service.require_fit), but {why}."
    )


def _serving(plan: Plan) -> Serving:
    service = plan.recipe.job.service
    return Serving(
        context_length=service.context_length,
        num_parallel=plan.num_parallel,
        kv_cache_type=service.kv_cache_type or "f16",
        num_batch=service.num_batch or DEFAULT_BATCH,
        gpu=_on_gpus(plan),
        gpu_layers=service.num_gpu,
        flash_attention=service.with_flash_attention,
        engine=service.engine,
    )


def _on_gpus(plan: Plan) -> bool:
    return plan.gpus > 0 and plan.recipe.job.service.num_gpu != 0


def _room(plan: Plan) -> Room:
    """What one replica has."""
    local = kind_of(plan.site.scheduler).this_machine
    mem_gb, per_node = plan.recipe.job.infrastructure.mem_gb, plan.replicas_per_node
    if _on_gpus(plan):
        partition = plan.engine.resources.partition if plan.engine else None
        return room_on_gpus(plan.site, partition, plan.gpus // per_node, local)
    return room_of_host(plan.replicas) if local else room_of_job(mem_gb, per_node)
