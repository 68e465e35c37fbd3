"""The Ollama service: one job that serves one model."""

from __future__ import annotations

from hpc.deployment import Deployment
from hpc.recipe import is_model_path


def setup_ollama(data: Deployment) -> str:
    """Render and submit the Ollama job of `data`. Returns its job id.

    Raises SchedulerError where the scheduler refuses the job.
    """
    plan = data.plan
    service = plan.recipe.job.service
    modelfile = ""
    if is_model_path(service.model):
        modelfile = str(data.write_aside("Modelfile", f"FROM {service.model}\n"))
    return data.submit(
        plan.ollama,
        modelfile=modelfile,
        model_source=service.model,
        num_parallel=plan.num_parallel,
        max_queue=plan.max_queue,
        context_length=service.context_length,
        keep_alive=service.keep_alive,
        proxy=_proxy_variables(data),
    )


def _proxy_variables(data: Deployment) -> list[str]:
    proxy = data.plan.site.proxy
    named = {"http_proxy": proxy.http, "https_proxy": proxy.https}
    return [f"{name}={value}" for name, value in named.items() if value]
