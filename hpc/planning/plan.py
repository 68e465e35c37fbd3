"""Deciding everything about a deployment before anything is submitted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.errors import UsageError
from contracts.files import expanded
from contracts.given_server import GivenServer
from hpc.images import check_bindable
from hpc.planning.chain import Lasting, bounded, in_jobs, remark
from hpc.planning.cluster import cluster_cpu_jobs, cluster_engine
from hpc.planning.local import local_cpu_jobs, local_engine
from hpc.planning.memory import Fit
from hpc.planning.monitoring import MonitoringPlan, plan_monitoring
from hpc.planning.origins import Origin, note_models
from hpc.planning.parts import Given, JobPlan, MakeJob, Notes, client_cpus, plan_qdrant
from hpc.planning.replicas import note_cores, plan_replicas
from hpc.planning.share import plan_share, with_mail
from hpc.recipe.reading import ollama_name
from hpc.recipe.schema import MAX_DEFAULT_PARALLEL, Recipe, Service
from hpc.recipe.sections import Access
from hpc.scheduler.interface import NOTHING_EXPORTED, Exported, Partition, Setting
from hpc.scheduler.registry import kind_of
from hpc.site import Site

#: gunicorn with Flask takes 0.1 GiB, a load generator with its records less than 1 GiB.
CLIENT_MEM_GB = 4
#: Prometheus takes 0.1 GB for the targets of some hundred nodes, Grafana 0.2 GB.
MONITORING_CPUS, MONITORING_MEM_GB = 1, 2
#: Ollama's default for OLLAMA_MAX_QUEUE; beyond it, it answers 503.
OLLAMA_MAX_QUEUE = 512
#: What is said of a deployment whose engines ask for nothing.
OPEN_TO_ALL = (
    'security is "none": everybody on the network of the nodes can ask the engines, and delete '
    "their models"
)


@dataclass(frozen=True)
class Plan:
    """All that is decided before anything is submitted."""

    recipe: Recipe
    site: Site
    model: str
    embedding_model: str | None
    #: Per node; the replicas of a node have equal parts of them.
    gpus: int
    replicas_per_node: int
    num_parallel: int
    max_queue: int
    #: The engine's job; None if a server is measured that nobody starts here.
    engine: JobPlan | None
    client: JobPlan
    monitoring: MonitoringPlan
    monitoring_job: JobPlan
    #: None if there is no retrieval, or the client service keeps the points itself.
    qdrant: JobPlan | None
    #: Who reaches the engines.
    security: Access
    #: Whether the client service and the engines speak TLS.
    tls: bool
    #: Who may log in, as the recipe has it.
    share: tuple[str, ...]
    #: Variables for the scheduler in the user's environment that are left out.
    left_out: tuple[str, ...]
    settings: tuple[Setting, ...] = field(repr=False)
    #: Until when its jobs follow one another; None if there is one of each alone.
    lasting: Lasting | None = None
    #: That server.
    server: GivenServer | None = None
    #: The model's file, if the engine is given one; else "".
    weights: str = ""
    #: Where its models come from, the one that answers first.
    origins: tuple[Origin, ...] = ()
    #: Whether its models fit into memory; None before that was asked, and for that server's.
    fit: Fit | None = field(default=None, repr=False)

    @property
    def staging(self) -> str:
        """The node's own disk, to which models are copied before they are loaded; "" if they are
        not."""
        chosen = self.recipe.job.service.staging or self.site.staging
        return "" if chosen in (None, "none") else self.site.local_disk

    @property
    def replicas(self) -> int:
        """All replicas of the engine; 0 if a server is measured that nobody starts here."""
        return self.recipe.job.infrastructure.nodes * self.replicas_per_node

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """What people are told of it: parts of the monitoring that cannot be had, and settings that
        are left out; each with the word that stands before it."""
        said = [("WARNING", f"monitoring: {problem}") for problem in self.monitoring.missing]
        if self.security == "none" and self.engine is not None:
            said.append(("WARNING", OPEN_TO_ALL))
        said += [("WARNING", origin.problem) for origin in self.origins if origin.problem]
        if self.fit is not None and self.fit.problem:
            said.append(("WARNING", self.fit.problem))
        if self.lasting is not None:
            said.append(("orch", remark(self.lasting, self.recipe)))
        if self.left_out:
            names = ", ".join(f"${name}" for name in self.left_out)
            whose = f"{kind_of(self.site.scheduler).title}'s commands"
            said.append(("orch", f"not passed on to {whose}: {names} (see docs/sites.md)"))
        return said


def make_plan(
    recipe: Recipe,
    site: Site,
    partitions: Sequence[Partition] = (),
    monitoring: bool = True,
    exported: Exported = NOTHING_EXPORTED,
    weights: str = "",
    origins: tuple[Origin, ...] = (),
) -> Plan:
    """Decide everything about a deployment of `recipe` at `site`.

    `partitions` is what the scheduler knows, needed if the profile names none; without
    `monitoring` there is none, whatever the recipe says. If neither recipe nor site decide,
    `exported` does. `weights`: the model's file, of an engine that is given one; `origins`: where
    its models come from.
    Raises UsageError if the two do not fit together.
    """
    kind, (recipe, lasting) = kind_of(site.scheduler), in_jobs(recipe, site, partitions)
    notes = Notes(kind.options_in(site.directives), exported.chosen)
    service = recipe.job.service
    model = note_models(recipe, site, origins, weights, notes)
    given = Given(recipe, site, kind, partitions, notes)
    security = _security(given)
    server, (engine, gpus, per_node) = _server(given), _engine(given)
    on_cpus = (local_cpu_jobs if kind.this_machine else cluster_cpu_jobs)(given)
    qdrant = plan_qdrant(recipe, site, on_cpus, notes, lasting is not None)
    return Plan(
        recipe=recipe,
        site=site,
        model=model,
        embedding_model=_embedding_model(recipe, notes),
        gpus=gpus,
        replicas_per_node=per_node,
        num_parallel=_num_parallel(service, notes) if engine else 0,
        security=security,
        tls=_tls(given, security),
        share=plan_share(given, security),
        max_queue=max(OLLAMA_MAX_QUEUE, 2 * service.concurrency),
        lasting=bounded(lasting, recipe, gpus, notes),
        engine=engine,
        client=_client(given, on_cpus, engine, per_node),
        monitoring=_watch(given, monitoring, gpus, per_node, qdrant is not None),
        monitoring_job=on_cpus("monitoring", MONITORING_CPUS, MONITORING_MEM_GB),
        qdrant=qdrant,
        left_out=exported.left_out,
        settings=tuple(notes.settings),
        server=server,
        weights=weights,
        origins=origins,
    )


def _client(given: Given, make: MakeJob, engine: JobPlan | None, per_node: int) -> JobPlan:
    """The client's job; notes the cores that it, what it measures and what watches that have."""
    cpus = client_cpus(given.recipe.job.service.concurrency)
    job = with_mail(given, make("client", cpus, CLIENT_MEM_GB))
    if engine is not None:
        note_cores(given, per_node, engine.resources, job.resources)
    return job


def _watch(given: Given, wanted: bool, gpus: int, per_node: int, qdrant: bool) -> MonitoringPlan:
    """What is watched; `per_node` replicas are on each node, or there are none."""
    notes = given.notes
    watch = plan_monitoring(given.recipe.job.monitoring, given.site, wanted)
    notes.add("monitoring", ", ".join(sorted(watch.parts)) or "none", "what can be had here")
    nodes = given.recipe.job.infrastructure.nodes if per_node else 0
    targets = watch.targets(nodes, gpus, qdrant, per_node)
    notes.add("monitoring_targets", targets, "what Prometheus is to find")
    return watch


def _engine(given: Given) -> tuple[JobPlan | None, int, int]:
    """The engine's job, and GPUs and replicas of each of its nodes; none if a server is measured
    that nobody starts here."""
    if given.recipe.job.service.server is not None:
        return None, 0, 0
    service = given.recipe.job.service
    given.notes.add("engine", service.engine, "recipe or its default")
    staging = (service.staging, "recipe"), (given.site.staging, "site"), ("none", "default")
    given.notes.first("staging", *staging)
    here = given.kind.this_machine
    job, gpus = (local_engine if here else cluster_engine)(given)
    if gpus == 0 and service.num_gpu and not here:
        raise UsageError(
            f"job.service.num_gpu is {service.num_gpu} layers on GPUs, but no GPU "
            'is asked for: set "gpus", or leave num_gpu out.'
        )
    return job, gpus, plan_replicas(given, gpus, job.resources)


def _server(given: Given) -> GivenServer | None:
    """That server, with the whole path of its key. Raises UsageError if others can read the key,
    or nobody can."""
    server = given.recipe.job.service.server
    if server is None:
        return None
    given.notes.add("server", f"{server.url} ({server.api})", "recipe; nothing is started for it")
    if server.token_file is None:
        return server
    path = expanded(server.token_file)
    what = f"job.service.server.token_file {path}"
    if given.site.runtime != "host":
        check_bindable(path)
    try:
        mode = path.stat().st_mode
        path.read_bytes()
    except OSError as error:
        raise UsageError(f"{what} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise UsageError(f"others can read {what}: chmod 600 {shlex.quote(str(path))}.")
    return server.model_copy(update={"token_file": str(path)})


def _security(given: Given) -> Access:
    asked, at_site = given.recipe.job.security, given.site.security
    otherwise = security_at(given.site)
    choices = (asked, "recipe"), (at_site, "site"), (otherwise, "default")
    given.notes.first("security", *choices)
    return asked or otherwise


def security_at(site: Site) -> Access:
    """How far what is opened at a site is kept from others, if no recipe says it."""
    return site.security or ("token" if kind_of(site.scheduler).this_machine else "required")


def _tls(given: Given, security: Access) -> bool:
    """Whether the client service and the engines speak TLS. Raises UsageError if nothing is there
    that could."""
    asked, at_site = given.recipe.job.tls, given.site.tls
    if not (at_site if asked is None else asked):
        return False
    where = "site" if asked is None else "recipe"
    if security == "none":
        raise UsageError(
            f'tls is true ({where}), but security is "none", with which nothing is in front of '
            'the engines that speaks it; choose "token" or "required", or leave tls out.'
        )
    given.notes.add(
        "tls", "the client service and the engines, by certificates of their own", where
    )
    return True


def _num_parallel(service: Service, notes: Notes) -> int:
    """Requests that Ollama works on at once; notes that, and how it does."""
    if service.num_parallel:
        parallel, why = service.num_parallel, "recipe"
    else:
        load = "n_clients" if service.rate is None else "max_concurrency or rate"
        load = "batch or n_clients" if service.batch else load
        parallel = min(service.concurrency, MAX_DEFAULT_PARALLEL)
        why = f"{load}, at most {MAX_DEFAULT_PARALLEL}"
    notes.add("num_parallel", parallel, why)
    threads = (service.num_thread, "recipe"), ("its cores", "each replica, once it has begun")
    notes.first("num_thread", *threads)
    notes.add("context_length", service.context_length, "recipe or its default")
    for name, value, source in service.told():
        notes.add(name, value, source)
    return parallel


def _embedding_model(recipe: Recipe, notes: Notes) -> str | None:
    retrieval = recipe.job.service.wanted_retrieval
    if retrieval is None:
        return None
    model = ollama_name(retrieval.embedding_model)
    notes.add("collection", retrieval.collection, "recipe or its default")
    notes.add("embedding_model", model, "recipe or its default")
    return model
