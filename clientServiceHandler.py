"""The client service: one job on a CPU node that asks and measures an engine, or measures a server
that somebody else has started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.job_files import certificate_digest, url_of
from contracts.jobs.ids import number_of
from contracts.load import (
    MOST_WAITING,
    RESERVED_THREADS,
    SERVING_THREADS,
    WAITING_IN_ENGINE,
)
from engines.servers.deployable import DEPLOYED
from hpc.deployment import Deployment
from hpc.deployments.chain import Chain
from hpc.following.target import Target
from hpc.images import client_image
from hpc.planning.plan import Plan
from hpc.planning.share import notify_of
from hpc.recipe.batch import folders_of
from hpc.service import Launched, Ready, Service
from retrieval.settings import section

if TYPE_CHECKING:
    from engines.engine import Facts

#: It asks all replicas, and gives each a while.
HEALTH_TIMEOUT_S = 15.0


def setup_client_service(data: Deployment) -> str:
    """Render and submit the client's job of `data`; it starts once the engine's job has started.

    Its CPUs come from n_clients (`hpc.planning.parts.client_cpus` says by what rule and why).
    Returns its job id. Raises SchedulerError if the scheduler refuses the job.
    """
    jobs, server = data.record.jobs if data.record else {}, data.plan.server
    engine = DEPLOYED[data.plan.recipe.job.service.engine]
    engines = data.plan.replicas or 1
    in_flight = max(1, data.plan.num_parallel) + WAITING_IN_ENGINE
    return data.submit(
        data.plan.client,
        depends_on=[jobs[service] for service in (engine.service, "qdrant") if service in jobs],
        engine=data.plan.recipe.job.service.engine,
        engine_service=engine.service,
        engine_title=engine.title,
        engine_api=engine.api,
        engine_health=engine.health,
        engine_job=jobs.get(engine.service, ""),
        server=server.model_dump_json() if server else "",
        token_file=(server.token_file if server else None) or "",
        monitoring_job=number_of(jobs.get("monitoring", "")),
        threads=SERVING_THREADS,
        queries=min(SERVING_THREADS - RESERVED_THREADS, engines * in_flight),
        engines=engines,
        in_flight=in_flight,
        waiting=MOST_WAITING,
        image=client_image(data.plan.site),
        retrieval=_retrieval(data.plan),
        qdrant=_storage(data),
        qdrant_job=jobs.get("qdrant", ""),
        qdrant_key=data.aside("qdrant.key") if data.plan.qdrant else "",
        chain=_chain(data, engine.service),
        batch=_batch(data),
        on_request=data.plan.recipe.job.service.on_request,
        idle_seconds=data.plan.recipe.job.service.idle_seconds or "",
        notify=_notify(data.plan),
        handover=_handover(data.plan),
    )


def _chain(data: Deployment, engine: str) -> Mapping[str, object] | None:
    """What the job is told of those that come after it, with the services of the other jobs in the
    order in which they are submitted for the next one. None if none comes."""
    service = data.plan.recipe.job.service
    if service.batch is None and not service.on_request and data.plan.lasting is None:
        return None
    jobs = data.record.jobs if data.record else {}
    others = {"qdrant": data.plan.qdrant is not None, "monitoring": data.plan.monitoring.on}
    services = [engine, *(name for name, there in others.items() if there)]
    return {
        "folder": Chain(data.output.path, data.id).folder,
        "scripts": data.output.path / "scripts" / data.id,
        "services": [{"name": service, "job": jobs.get(service, "")} for service in services],
    }


def _batch(data: Deployment) -> Mapping[str, object] | None:
    """What the job is told of a batch that it works off; None if there is none."""
    batch = data.plan.recipe.job.service.batch
    if batch is None:
        return None
    return {
        "input": batch.input,
        "output": str(batch.output),
        "max_jobs": batch.max_jobs,
        "continue": int(batch.continue_),
        "binds": folders_of(batch),
    }


def _notify(plan: Plan) -> Mapping[str, object] | None:
    """Whom the job tells that it is ready, and that it ends; None: nobody."""
    told = notify_of(plan.recipe, plan.site)
    if told is None or (told.command is None and told.webhook is None):
        return None
    return {"command": told.command or [], "webhook": told.webhook or ""}


def _handover(plan: Plan) -> list[str] | None:
    """What client/handover is told of how long jobs follow one another; None if they do not."""
    lasting = plan.lasting
    if lasting is None:
        return None
    told = {"until": lasting.until, "lasts": lasting.lasts_s, "max-jobs": lasting.max_jobs}
    return [f"--{name}={value}" for name, value in told.items() if value is not None]


def _retrieval(plan: Plan) -> str:
    """What the service is told of retrieval; "" if there is none."""
    wanted = plan.recipe.job.service.wanted_retrieval
    if wanted is None or plan.embedding_model is None:
        return ""
    return section(wanted.collection, plan.embedding_model, wanted.top_k)


def _storage(data: Deployment) -> str:
    """The folder of the collection, which is the service's own; "" if there is none."""
    wanted = data.plan.recipe.job.service.wanted_retrieval
    return str(data.output.path / "qdrant_storage" / wanted.collection) if wanted else ""


def probe_client(url: str, model: str, token_file: Path | None = None) -> Facts | str:
    """What the client service says of the engine, or a sentence saying why not every query would be
    answered yet. It is sent the token of the file, if there is one."""
    # Once the jobs are on their way: to load both takes a while.
    from engines.client_service import CLIENT_SERVICE
    from hpc.web import NoAnswer, asking

    try:
        ask = asking(url, get_s=HEALTH_TIMEOUT_S, token_file=token_file)
        return CLIENT_SERVICE.ready(ask, "", model, url)
    except NoAnswer as error:
        return error.message


def _target(launched: Launched) -> Target:
    job_id, model = launched.record.jobs["client"], launched.model
    token_file = launched.token_file
    return Target(
        "client", job_id, lambda at: probe_client(url_of(at[0], token_file), model, token_file)
    )


def _ready(launched: Launched, target: Target) -> Ready:
    endpoints = {"client": url_of(target.addresses[0], launched.token_file)}
    digest = certificate_digest(launched.token_file)
    sleeps = launched.recipe.job.service.on_request
    return Ready(
        endpoints,
        {"certificate_sha256": digest} if digest else {},
        words="the engine's job is submitted by the first request" if sleeps else "",
    )


SERVICE = Service("client", setup_client_service, _target, _ready)
