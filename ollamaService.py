"""The Ollama service: one job that serves a model, and for retrieval one that embeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from engines.servers.deployable import DEPLOYED
from engines.servers.ollama_options import FLASH_ATTENTION, KV_CACHE_TYPE, PARAMETERS, unheeded
from engines.servers.options import text_of
from hpc.deployment import Deployment
from hpc.planning.manifests import place_of
from hpc.recipe.options import EngineOptions
from hpc.recipe.reading import models_of
from hpc.recipe.values import is_model_path
from hpc.service import Launched
from hpc.serving import engine_service, job_of, probe, submit_engine

if TYPE_CHECKING:
    from engines.engine import Facts

OLLAMA = DEPLOYED["ollama"]


def setup_ollama(data: Deployment) -> str:
    """Render and submit the Ollama job of `data`. Returns its job id, "" if there is none.

    Raises SchedulerError if the scheduler refuses the job.
    """
    plan, job = data.plan, job_of(data.plan, OLLAMA)
    if job is None:
        return ""
    service, models = plan.recipe.job.service, models_of(plan.recipe)
    embedding = next(iter(models[1:]), "")
    return submit_engine(
        data,
        OLLAMA,
        job,
        manifest=str(place_of(plan.model)),
        embedding_manifest=str(place_of(plan.embedding_model)) if plan.embedding_model else "",
        store=plan.site.model_store or "",
        stored=[str(place_of(one.model)) for one in plan.origins if one.in_ollamas_layout],
        modelfile=_modelfile(data, service.model, "Modelfile"),
        model_source=service.model,
        embedding_model=plan.embedding_model or "",
        embedding_modelfile=_modelfile(data, embedding, "embedding.Modelfile"),
        embedding_source=embedding,
        max_queue=plan.max_queue,
        keep_alive=service.keep_alive,
        variables=_variables(service),
        parameters=_parameters(service),
    )


def _variables(service: EngineOptions) -> list[str]:
    """What of the recipe's options Ollama's environment says, as NAME=VALUE."""
    asked = {
        FLASH_ATTENTION: service.with_flash_attention,
        KV_CACHE_TYPE: service.kv_cache_type,
        **service.variables,
    }
    return [f"{name}={text_of(value)}" for name, value in asked.items() if value is not None]


def _parameters(service: EngineOptions) -> str:
    """What its models say, as the members of a JSON object; that of threads each replica knows."""
    loading = {name: getattr(service, name) for name in PARAMETERS if name != "num_thread"}
    asked = {name: value for name, value in loading.items() if value is not None}
    return json.dumps({**asked, **service.defaults}, separators=(",", ":"))[1:-1]


def _modelfile(data: Deployment, model: str, name: str) -> str:
    """The path of what Ollama imports a file by; "" for a model of its library."""
    return str(data.write_aside(name, f"FROM {model}\n")) if is_model_path(model) else ""


def probe_ollama(url: str, model: str, token_file: Path | None = None) -> Facts | str:
    """Whether Ollama at `url` is ready to answer with `model` (see `hpc.serving.probe`)."""
    return probe(OLLAMA, url, model, token_file)


def _left_out(launched: Launched) -> list[str]:
    """What of the recipe's options Ollama does without, though it serves."""
    service = launched.recipe.job.service
    if not service.with_flash_attention and service.kv_cache_type is None:
        return []
    log = launched.output.log("ollama", launched.record.jobs["ollama"])
    said = unheeded(log.read_text("utf-8", errors="replace")) if log.exists() else []
    return [
        f"Ollama does without flash_attention or kv_cache_type as asked for, and says why: {why}"
        for why in said
    ]


SERVICE = engine_service(OLLAMA, setup_ollama, _left_out)
