"""The Ollama service: one job that serves a model, and for retrieval one that embeds."""

from __future__ import annotations

from pathlib import Path

from hpc.deployment import Deployment
from hpc.images import client_image, ollama_image
from hpc.recipe import is_model_path, models_of


def setup_ollama(data: Deployment) -> str:
    """Render and submit the Ollama job of `data`. Returns its job id.

    Raises SchedulerError where the scheduler refuses the job.
    """
    plan = data.plan
    service = plan.recipe.job.service
    embedding = next(iter(models_of(plan.recipe)[1:]), "")
    return data.submit(
        plan.ollama,
        image=ollama_image(plan.site),
        client_image=client_image(plan.site),
        nodes=plan.recipe.job.infrastructure.nodes,
        gpus=plan.gpus,
        modelfile=_modelfile(data, service.model, "Modelfile"),
        model_folders=_folders(models_of(plan.recipe)),
        model_source=service.model,
        embedding_model=plan.embedding_model or "",
        embedding_modelfile=_modelfile(data, embedding, "embedding.Modelfile"),
        embedding_source=embedding,
        num_parallel=plan.num_parallel,
        max_queue=plan.max_queue,
        context_length=service.context_length,
        keep_alive=service.keep_alive,
    )


def _modelfile(data: Deployment, model: str, name: str) -> str:
    """The path of what Ollama imports a file by; "" for a model of its library."""
    return str(data.write_aside(name, f"FROM {model}\n")) if is_model_path(model) else ""


def _folders(models: list[str]) -> list[str]:
    return sorted({str(Path(model).parent) for model in models if is_model_path(model)})
