"""What jobs on a cluster ask for: partition, nodes, cores, memory, GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engines.servers.deployable import DEPLOYED
from hpc.planning.parts import (
    STREAMS_PER_CORE,
    Given,
    JobPlan,
    MakeJob,
    client_cpus,
    planned_gpus,
    whole_number,
)
from hpc.scheduler.interface import Partition
from hpc.scheduler.resources import Resources


def cluster_engine(given: Given) -> tuple[JobPlan, int]:
    """The engine's job, and the GPUs of each of its nodes."""
    infra, notes = given.recipe.job.infrastructure, given.notes
    with_gpus = [] if given.site.gpu_vendor == "none" else _with_gpus(given.partitions)
    partition = notes.first(
        "partition",
        (infra.partition, "recipe"),
        (_head(given.site.gpu_partitions), "site: its first GPU partition"),
        notes.variable("partition"),
        (_head(with_gpus), f"{given.kind.lister}: the first one with GPUs"),
    )
    gpus = _gpus(given, partition)
    cores = _engine_cores(given, gpus, partition)
    notes.first("mem_gb", (infra.mem_gb, "recipe"))
    resources = replace(
        _common(given, partition),
        nodes=infra.nodes,
        each_node=True,
        cores=cores,
        mem_gb=infra.mem_gb,
        gpus=gpus,
    )
    return JobPlan(DEPLOYED[given.recipe.job.service.engine].service, resources), gpus


def _gpus(given: Given, partition: object) -> int:
    known = given.site.gpu_partitions or _with_gpus(given.partitions)
    with_gpus = set(_names(partition)) & set(_names(",".join(known)))
    default = (1, "a GPU partition") if with_gpus else (0, "not a GPU partition")
    return planned_gpus(given, default)


def _engine_cores(given: Given, gpus: int, partition: object) -> int:
    rule = 8 * gpus or 16
    # The job begins in that one of its partitions which has room first: it is to fit into each.
    named = [p for p in given.partitions if p.name in _names(partition)]
    listed = [p for p in named if p.has_gpus or not gpus]
    default = min([rule, *(p.cpus_per_node for p in listed if p.cpus_per_node)])
    why = f"{'8 for each GPU' if gpus else '16 without GPUs'}, as far as nodes have"
    asked = given.recipe.job.infrastructure.cpus
    return whole_number(given.notes.first("cpus", (asked, "recipe"), (default, why)))


def cluster_cpu_jobs(given: Given) -> MakeJob:
    """Makes the jobs that need no GPU, by service, cores and GiB."""
    recipe, notes = given.recipe, given.notes
    fit = _cpu_partition(given.partitions, recipe.time_seconds)
    partition = notes.first(
        "client_partition",
        (recipe.job.infrastructure.client_partition, "recipe"),
        (_head(given.site.cpu_partitions), "site: its first CPU partition"),
        notes.variable("partition"),
        (fit, f"{given.kind.lister}: a partition without GPUs"),
    )
    cpus = client_cpus(recipe.job.service.concurrency)
    _note_common(given)
    notes.add("client_cpus", cpus, f"1 to serve + 1 for each {STREAMS_PER_CORE} clients")
    common = _common(given, partition)
    return lambda service, cores, mem_gb: JobPlan(
        service, replace(common, cores=cores, mem_gb=mem_gb)
    )


def _cpu_partition(partitions: Sequence[Partition], seconds: int) -> str | None:
    """The default partition if it will do, else the first that has nodes without GPUs."""
    fit = [p for p in partitions if p.has_nodes_without_gpus and p.max_seconds >= seconds]
    fit.sort(key=lambda p: (p.has_gpus, not p.default))
    return fit[0].name if fit else None


def _common(given: Given, partition: object) -> Resources:
    """What all jobs ask for."""
    infra, site, notes = given.recipe.job.infrastructure, given.site, given.notes
    further = ((option, notes.variable(option)[0]) for option in given.kind.further_options)
    return Resources(
        time=infra.time,
        partition=_text(partition),
        account=infra.account or site.account or _text(notes.variable("account")[0]),
        qos=infra.qos or site.qos or _text(notes.variable("qos")[0]),
        further=tuple((option, str(value)) for option, value in further if value is not None),
        gpu_request=site.gpu_request,
        directives=tuple(site.directives),
    )


def _note_common(given: Given) -> None:
    """Note where the values of `_common` come from."""
    notes = given.notes
    for name in ("account", "qos"):
        recipe = (getattr(given.recipe.job.infrastructure, name), "recipe")
        site = (getattr(given.site, name), "site")
        notes.first(name, recipe, site, notes.directive(name), notes.variable(name))
    for name in given.kind.further_options:
        said = [notes.directive(name), notes.variable(name)]
        if any(value is not None for value, _ in said):
            notes.first(name, *said)


def _with_gpus(partitions: Sequence[Partition]) -> list[str]:
    return [partition.name for partition in partitions if partition.has_gpus]


def _names(partition: object) -> list[str]:
    """The partitions of a list, as schedulers take it."""
    return str(partition).split(",") if partition else []


def _head(names: Sequence[str]) -> str | None:
    return names[0] if names else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
