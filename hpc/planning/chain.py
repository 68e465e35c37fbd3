"""Whether the jobs of a deployment follow one another, and for how long: it outlives them then."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contracts.errors import UsageError
from hpc.planning.parts import Notes
from hpc.recipe.schema import Recipe
from hpc.recipe.sections import Infrastructure
from hpc.recipe.values import DEFAULT_TIME, STOPPED, moment
from hpc.scheduler.interface import Partition
from hpc.site import Site
from hpc.times import format_time, parse_time

#: What a job's successor is asked for ahead of its time limit.
LEAD = (
    "time to ready + wait in the queue + open answers (30 s to a quarter of the limit), "
    "half of the limit at most"
)
_BOUNDS = ("max_jobs", "gpu_hours")


@dataclass(frozen=True)
class Lasting:
    """For how long jobs follow one another: until a time (in seconds since 1970), or for so many
    seconds from when the first of them begins; None for both: until it is stopped. `max_jobs`: as
    many of them at most."""

    until: int | None
    lasts_s: int | None
    max_jobs: int | None


def asks_for_chain(infra: Infrastructure) -> bool:
    """Whether a recipe may ask for jobs that follow one another."""
    keys = (infra.until, infra.max_jobs, infra.gpu_hours)
    long = parse_time(infra.time) > parse_time(DEFAULT_TIME)
    return long or any(key is not None for key in keys)


def in_jobs(
    recipe: Recipe, site: Site, partitions: Sequence[Partition]
) -> tuple[Recipe, Lasting | None]:
    """The recipe with the time limit of one job, and how long such jobs follow one another; None if
    one is enough. Raises UsageError."""
    infra, alone = recipe.job.infrastructure, _alone(recipe)
    asked_s, limit_s = parse_time(infra.time), _limit(infra, site, partitions)
    if infra.until is not None and alone:
        raise UsageError(
            f"job.infrastructure.until does not go with job.service.{alone}: leave one of them out."
        )
    if infra.until is None and (asked_s <= limit_s or alone):
        for key in _BOUNDS:
            if getattr(infra, key) is not None:
                raise UsageError(
                    f"job.infrastructure.{key} bounds jobs that follow one another, but this "
                    'deployment is one job: add "until", or leave it out.'
                )
        return recipe, None
    job_s = int(min(asked_s, limit_s))
    shorter = infra.model_copy(update={"time": format_time(job_s)})
    lasting = Lasting(
        until=_until(infra.until),
        lasts_s=asked_s if infra.until is None else None,
        max_jobs=infra.max_jobs,
    )
    job = recipe.job.model_copy(update={"infrastructure": shorter})
    return recipe.model_copy(update={"job": job}), lasting


def _alone(recipe: Recipe) -> str:
    """What the jobs of which none are followed have; "" if they may be."""
    service = recipe.job.service
    return next((name for name in ("batch", "on_request", "server") if getattr(service, name)), "")


def bounded(lasting: Lasting | None, recipe: Recipe, gpus: int, notes: Notes) -> Lasting | None:
    """The same with what `gpu_hours` says of the number of jobs, which have so many GPUs on each
    node; notes what the plan shows of it. Raises UsageError: not even one job has room in that."""
    if lasting is None:
        return None
    infra, job_s = recipe.job.infrastructure, recipe.time_seconds
    each = infra.nodes * gpus * job_s / 3600
    most = [lasting.max_jobs] if lasting.max_jobs else []
    if infra.gpu_hours is not None:
        most.append(_within(infra.gpu_hours, each, job_s))
    jobs = min(most, default=None)
    notes.add("jobs_follow", _in_words(lasting), "recipe: until, or time beyond its partition's")
    notes.add("lead", LEAD, "each job measures it")
    notes.add("max_jobs", jobs, "recipe: max_jobs, gpu_hours")
    if gpus:
        hours = None if jobs is None else round(jobs * each, 2)
        notes.add("gpu_hours", hours, f"at most; {each:.2f} each job")
    return Lasting(lasting.until, lasting.lasts_s, jobs)


def remark(lasting: Lasting, recipe: Recipe) -> str:
    """What people are told of it."""
    most = "" if lasting.max_jobs is None else f", {lasting.max_jobs} at most"
    return (
        f"jobs of {format_time(recipe.time_seconds)} follow one another {_in_words(lasting)}{most};"
        f" the next one is submitted ahead of the limit by {LEAD}"
    )


def _in_words(lasting: Lasting) -> str:
    if lasting.until is not None:
        return f"until {datetime.fromtimestamp(lasting.until):%Y-%m-%dT%H:%M}"
    return "until stopped" if lasting.lasts_s is None else f"for {format_time(lasting.lasts_s)}"


def _within(gpu_hours: float, each: float, job_s: int) -> int:
    """How many jobs `gpu_hours` are enough for, each counted with all of its time limit."""
    if each == 0:
        raise UsageError(
            "job.infrastructure.gpu_hours bounds GPUs, but none is asked for: leave it out."
        )
    if gpu_hours < each:
        raise UsageError(
            f"job.infrastructure.gpu_hours is {gpu_hours:g}, but one job of {format_time(job_s)} "
            f"takes {each:g}: allow more, or lower time."
        )
    return math.floor(round(gpu_hours / each, 6))  # 0.6 / 0.2 is less than 3


def _until(text: str | None) -> int | None:
    if text is None or text == STOPPED:
        return None
    until = int(moment(text))
    if until <= time.time():
        raise UsageError(
            f"job.infrastructure.until is {text}, which has passed; name a later time."
        )
    return until


def _limit(infra: Infrastructure, site: Site, partitions: Sequence[Partition]) -> float:
    """The longest time limit that both engine and client may have; infinite if nobody says it."""
    engine = _names(infra.partition or next(iter(site.gpu_partitions), None))
    client = _names(infra.client_partition or next(iter(site.cpu_partitions), None))
    with_gpus = [p for p in partitions if p.has_gpus]
    without = [p for p in partitions if p.has_nodes_without_gpus]
    return min(
        min(_limits(partitions, engine), default=_longest(with_gpus[:1])),
        min(_limits(partitions, client), default=_longest(without)),
    )


def _limits(partitions: Sequence[Partition], names: Sequence[str]) -> list[float]:
    return [p.max_seconds for p in partitions if p.name in names]


def _longest(partitions: Sequence[Partition]) -> float:
    return max((p.max_seconds for p in partitions), default=math.inf)


def _names(text: str | None) -> list[str]:
    return text.split(",") if text else []
