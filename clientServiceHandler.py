"""The client service: one job on a CPU node that asks and measures Ollama."""

from __future__ import annotations

from hpc.deployment import Deployment
from hpc.images import client_image
from hpc.plan import Plan
from retrieval.settings import section

#: Requests that the service answers at once; each waits for Ollama most of its time.
SERVING_THREADS = 64


def setup_client_service(data: Deployment) -> str:
    """Render and submit the client's job of `data`; it starts once the Ollama job has started.

    Its CPUs come from n_clients (`hpc.plan.client_cpus` says by what rule and why). Returns its
    job id. Raises SchedulerError where the scheduler refuses the job.
    """
    jobs = data.record.jobs if data.record else {}
    ollama_job = jobs.get("ollama", "")
    return data.submit(
        data.plan.client,
        depends_on=[jobs[service] for service in ("ollama", "qdrant") if service in jobs],
        ollama_job=ollama_job,
        monitoring_job=jobs.get("monitoring", ""),
        threads=SERVING_THREADS,
        image=client_image(data.plan.site),
        retrieval=_retrieval(data.plan),
        qdrant=_storage(data),
        qdrant_job=jobs.get("qdrant", ""),
        qdrant_key=data.aside("qdrant.key") if data.plan.qdrant else "",
    )


def _retrieval(plan: Plan) -> str:
    """What the service is told of retrieval; "" where there is none."""
    wanted = plan.recipe.job.service.wanted_retrieval
    if wanted is None or plan.embedding_model is None:
        return ""
    return section(wanted.collection, plan.embedding_model, wanted.top_k)


def _storage(data: Deployment) -> str:
    """The folder of the collection, which is the service's own; "" where there is none."""
    wanted = data.plan.recipe.job.service.wanted_retrieval
    return str(data.output.path / "qdrant_storage" / wanted.collection) if wanted else ""
