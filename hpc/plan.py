"""The plan: recipe and site put together, each value with where it came from."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpc.errors import UsageError
from hpc.monitoring import MonitoringPlan, plan_monitoring
from hpc.recipe import MAX_DEFAULT_PARALLEL, Recipe, full_model_name, ollama_name
from hpc.site import Site

#: One core of the load generator holds about 256 streams at true figures; we plan for half.
STREAMS_PER_CORE = 128
MAX_CLIENT_CPUS = 16
#: gunicorn with Flask takes 0.1 GiB, a load generator with its records less than 1 GiB.
CLIENT_MEM_GB = 4
#: Prometheus takes 0.1 GB for the targets of some hundred nodes, Grafana 0.2 GB.
MONITORING_CPUS, MONITORING_MEM_GB = 1, 2
#: Ollama's default for OLLAMA_MAX_QUEUE; beyond it, it answers 503.
OLLAMA_MAX_QUEUE = 512
#: slurmctld sends --signal with a resolution of a minute (sbatch(1)), so in a shorter job it
#: could come right at the start. Such a job is told by the TERM at its limit alone.
SHORTEST_WITH_SIGNAL_S = 600


@dataclass(frozen=True)
class Setting:
    """A value of the plan and who decided it, for --dry-run."""

    name: str
    value: object
    source: str


@dataclass(frozen=True)
class Partition:
    """What the scheduler says of one partition."""

    name: str
    default: bool = False
    has_gpus: bool = False
    has_nodes_without_gpus: bool = False
    cpus_per_node: int | None = None
    max_seconds: float = math.inf


@dataclass(frozen=True)
class JobPlan:
    """What one job asks of the scheduler.

    `directives` are (option, value) pairs of sbatch, value None for a bare option.
    """

    service: str
    directives: tuple[tuple[str, str | None], ...]


#: Makes a job that needs no GPU: service, CPU cores, GiB.
MakeJob = Callable[[str, int, int], JobPlan]


@dataclass(frozen=True)
class Plan:
    """All that is decided before anything is submitted."""

    recipe: Recipe
    site: Site
    model: str
    embedding_model: str | None
    gpus: int
    num_parallel: int
    max_queue: int
    ollama: JobPlan
    client: JobPlan
    monitoring: MonitoringPlan
    monitoring_job: JobPlan
    #: None where there is no retrieval, or the client service keeps the points itself.
    qdrant: JobPlan | None
    settings: tuple[Setting, ...] = field(repr=False)


class _Notes:
    """Collects settings while they are decided."""

    def __init__(self) -> None:
        self.settings: list[Setting] = []

    def add(self, name: str, value: object, source: str) -> object:
        self.settings.append(Setting(name, value, source))
        return value

    def first(self, name: str, *choices: tuple[object, str]) -> object:
        """Note and return the first choice that is not None."""
        for value, source in choices:
            if value is not None:
                return self.add(name, value, source)
        return self.add(name, None, "the scheduler's default")


def make_plan(
    recipe: Recipe, site: Site, partitions: Sequence[Partition] = (), monitoring: bool = True
) -> Plan:
    """Decide everything about a deployment of `recipe` at `site`.

    `partitions` is what the scheduler knows, needed where the profile names none; without
    `monitoring` there is none, whatever the recipe says.
    Raises UsageError where the two do not fit together.
    """
    notes = _Notes()
    service = recipe.job.service
    model = full_model_name(ollama_name(service.model))
    notes.add("site", site.name, "--site, or chosen by what is on PATH")
    notes.add("model", model, "recipe" if model == service.model else f"recipe: {service.model}")
    notes.add("time", recipe.job.infrastructure.time, "recipe")
    slurm = site.scheduler == "slurm"
    ollama, gpus = (_slurm_ollama if slurm else _local_ollama)(recipe, site, partitions, notes)
    on_cpus = (_slurm_cpu_jobs if slurm else _local_cpu_jobs)(recipe, site, partitions, notes)
    qdrant = _qdrant(recipe, site, on_cpus, notes)
    watch = plan_monitoring(recipe.job.monitoring, site, monitoring)
    notes.add("monitoring", ", ".join(sorted(watch.parts)) or "none", "what can be had here")
    targets = watch.targets(recipe.job.infrastructure.nodes, gpus, qdrant is not None)
    notes.add("monitoring_targets", targets, "what Prometheus is to find")
    parallel = service.num_parallel or min(service.n_clients, MAX_DEFAULT_PARALLEL)
    why = "recipe" if service.num_parallel else f"n_clients, at most {MAX_DEFAULT_PARALLEL}"
    notes.add("num_parallel", parallel, why)
    notes.add("context_length", service.context_length, "recipe or its default")
    return Plan(
        recipe=recipe,
        site=site,
        model=model,
        embedding_model=_embedding_model(recipe, notes),
        gpus=gpus,
        num_parallel=parallel,
        max_queue=max(OLLAMA_MAX_QUEUE, 2 * service.n_clients),
        ollama=ollama,
        client=on_cpus("client", client_cpus(service.n_clients), CLIENT_MEM_GB),
        monitoring=watch,
        monitoring_job=on_cpus("monitoring", MONITORING_CPUS, MONITORING_MEM_GB),
        qdrant=qdrant,
        settings=tuple(notes.settings),
    )


def _embedding_model(recipe: Recipe, notes: _Notes) -> str | None:
    retrieval = recipe.job.service.wanted_retrieval
    if retrieval is None:
        return None
    model = full_model_name(ollama_name(retrieval.embedding_model))
    notes.add("collection", retrieval.collection, "recipe or its default")
    notes.add("embedding_model", model, "recipe or its default")
    return model


def _qdrant(recipe: Recipe, site: Site, make: MakeJob, notes: _Notes) -> JobPlan | None:
    """The job of Qdrant's server, where there is retrieval and a server to be had."""
    retrieval = recipe.job.service.wanted_retrieval
    if retrieval is None:
        return None
    if site.runtime == "host" and not (site.modules or shutil.which("qdrant")):
        why = "there is no qdrant on PATH"
    elif site.runtime != "host" and site.images.qdrant is None:
        why = "the site profile names no image (images.qdrant)"
    else:
        notes.add("qdrant", "a job of its own", "what can be had here")
        return make("qdrant", retrieval.cpus, retrieval.mem_gb)
    notes.add("qdrant", "in the client service", why)
    return None


def client_cpus(n_clients: int) -> int:
    """CPU cores of the client's job: one to serve, one for each 128 concurrent streams.

    Serving and measuring must not share a core, or the one would delay the other's clock.
    """
    return min(MAX_CLIENT_CPUS, 1 + math.ceil(n_clients / STREAMS_PER_CORE))


# --- this machine --------------------------------------------------------------------------------


def _local_ollama(
    recipe: Recipe, site: Site, _: Sequence[Partition], notes: _Notes
) -> tuple[JobPlan, int]:
    infra = recipe.job.infrastructure
    for name in ("partition", "client_partition", "account", "qos", "cpus", "mem_gb"):
        if getattr(infra, name) is not None:
            notes.add(name, getattr(infra, name), "recipe; without meaning on this site")
    gpus = notes.first("gpus", (infra.gpus, "recipe"), (0, "this site does not ask for GPUs"))
    return JobPlan("ollama", _time(recipe)), _int(gpus)


def _local_cpu_jobs(recipe: Recipe, site: Site, _: Sequence[Partition], notes: _Notes) -> MakeJob:
    return lambda service, _cpus, _mem_gb: JobPlan(service, _time(recipe))


def _time(recipe: Recipe) -> tuple[tuple[str, str | None], ...]:
    return (("--time", recipe.job.infrastructure.time),)


# --- Slurm ---------------------------------------------------------------------------------------


def _slurm_ollama(
    recipe: Recipe, site: Site, partitions: Sequence[Partition], notes: _Notes
) -> tuple[JobPlan, int]:
    infra = recipe.job.infrastructure
    partition = notes.first(
        "partition",
        (infra.partition, "recipe"),
        (_head(site.gpu_partitions), "site: its first GPU partition"),
        (_head([p.name for p in partitions if p.has_gpus]), "sinfo: the first one with GPUs"),
    )
    gpus = _gpus(infra.gpus, partition, site, partitions, notes)
    cpus = _ollama_cpus(infra.cpus, gpus, partition, partitions, notes)
    directives = [
        *_common(recipe, site, partition, notes),
        ("--nodes", str(infra.nodes)),
        ("--ntasks-per-node", "1"),
        ("--cpus-per-task", str(cpus)),
    ]
    if notes.first("mem_gb", (infra.mem_gb, "recipe")) is not None:
        directives.append(("--mem", f"{infra.mem_gb}G"))
    if gpus and site.gpu_request:
        directives.append(_option(site.gpu_request.replace("{n}", str(gpus))))
    return JobPlan("ollama", (*directives, *map(_option, site.directives))), gpus


def _gpus(
    asked: int | None,
    partition: object,
    site: Site,
    partitions: Sequence[Partition],
    notes: _Notes,
) -> int:
    known = site.gpu_partitions or [p.name for p in partitions if p.has_gpus]
    default = (1, "a GPU partition") if partition in known else (0, "not a GPU partition")
    return _int(notes.first("gpus", (asked, "recipe"), default))


def _ollama_cpus(
    asked: int | None,
    gpus: int,
    partition: object,
    partitions: Sequence[Partition],
    notes: _Notes,
) -> int:
    rule = 8 * gpus or 16
    limit = next((p.cpus_per_node for p in partitions if p.name == partition), None)
    default = min(rule, limit) if limit else rule
    why = "8 for each GPU" if gpus else "16 without GPUs"
    return _int(notes.first("cpus", (asked, "recipe"), (default, f"{why}, as far as nodes have")))


def _slurm_cpu_jobs(
    recipe: Recipe, site: Site, partitions: Sequence[Partition], notes: _Notes
) -> MakeJob:
    """Makes the jobs that need no GPU, by service, cores and GiB."""
    infra = recipe.job.infrastructure
    partition = notes.first(
        "client_partition",
        (infra.client_partition, "recipe"),
        (_head(site.cpu_partitions), "site: its first CPU partition"),
        (_cpu_partition(partitions, recipe.time_seconds), "sinfo: a partition without GPUs"),
    )
    cpus = client_cpus(recipe.job.service.n_clients)
    notes.add("client_cpus", cpus, f"1 to serve + 1 for each {STREAMS_PER_CORE} clients")

    def job(service: str, cpus: int, mem_gb: int) -> JobPlan:
        directives = [
            *_common(recipe, site, partition, None),
            ("--nodes", "1"),
            ("--ntasks", "1"),
            ("--cpus-per-task", str(cpus)),
            ("--mem", f"{mem_gb}G"),
        ]
        return JobPlan(service, (*directives, *map(_option, site.directives)))

    return job


def _cpu_partition(partitions: Sequence[Partition], seconds: int) -> str | None:
    """The default partition if it will do, else the first that has nodes without GPUs."""
    fit = [p for p in partitions if p.has_nodes_without_gpus and p.max_seconds >= seconds]
    fit.sort(key=lambda p: (p.has_gpus, not p.default))
    return fit[0].name if fit else None


def _common(
    recipe: Recipe, site: Site, partition: object, notes: _Notes | None
) -> list[tuple[str, str | None]]:
    infra = recipe.job.infrastructure
    account, qos = infra.account or site.account, infra.qos or site.qos
    if notes is not None:
        notes.first("account", (infra.account, "recipe"), (site.account, "site"))
        notes.first("qos", (infra.qos, "recipe"), (site.qos, "site"))
    options = [("--partition", partition), ("--account", account), ("--qos", qos)]
    chosen: list[tuple[str, str | None]] = [(k, str(v)) for k, v in options if v is not None]
    chosen.append(("--time", infra.time))
    if recipe.time_seconds >= SHORTEST_WITH_SIGNAL_S:
        chosen.append(("--signal", "B:TERM@60"))
    return chosen


def _option(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def _head(names: Sequence[str]) -> str | None:
    return names[0] if names else None


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise UsageError(f"{value!r} is not a whole number")
    return value
