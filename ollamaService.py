"""The Ollama service: one job that serves one model."""

from __future__ import annotations

from pathlib import Path

from hpc.deployment import Deployment
from hpc.images import client_image, ollama_image
from hpc.recipe import is_model_path


def setup_ollama(data: Deployment) -> str:
    """Render and submit the Ollama job of `data`. Returns its job id.

    Raises SchedulerError where the scheduler refuses the job.
    """
    plan = data.plan
    service = plan.recipe.job.service
    modelfile = folder = ""
    if is_model_path(service.model):
        modelfile = str(data.write_aside("Modelfile", f"FROM {service.model}\n"))
        folder = str(Path(service.model).parent)
    return data.submit(
        plan.ollama,
        image=ollama_image(plan.site),
        client_image=client_image(plan.site),
        nodes=plan.recipe.job.infrastructure.nodes,
        gpus=plan.gpus,
        modelfile=modelfile,
        model_folder=folder,
        model_source=service.model,
        num_parallel=plan.num_parallel,
        max_queue=plan.max_queue,
        context_length=service.context_length,
        keep_alive=service.keep_alive,
    )
