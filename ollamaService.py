"""The Ollama service: one job that serves a model, and for retrieval one that embeds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import ServiceError
from contracts.job_files import url_of
from engines.names import HOST, parse
from engines.ollama_options import FLASH_ATTENTION, KV_CACHE_TYPE, PARAMETERS, unheeded
from engines.options import text_of
from hpc.deployment import Deployment
from hpc.following.target import Target
from hpc.images import client_image, ollama_image
from hpc.recipe.options import EngineOptions
from hpc.recipe.reading import models_of
from hpc.recipe.schema import Recipe
from hpc.recipe.values import is_model_path
from hpc.service import Launched, Ready, Service

if TYPE_CHECKING:
    from engines.engine import Facts, LoadedModel

#: A first token may wait for the model to be loaded again.
TOKEN_TIMEOUT_S = 300.0


def setup_ollama(data: Deployment) -> str:
    """Render and submit the Ollama job of `data`. Returns its job id, "" if there is none.

    Raises SchedulerError if the scheduler refuses the job.
    """
    plan = data.plan
    if plan.ollama is None:
        return ""
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
        num_thread=service.num_thread or "",
        num_parallel=plan.num_parallel,
        max_queue=plan.max_queue,
        context_length=service.context_length,
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


def _folders(models: list[str]) -> list[str]:
    return sorted({str(Path(model).parent) for model in models if is_model_path(model)})


# --- ready ---------------------------------------------------------------------------------------


def probe_ollama(url: str, model: str, token_file: Path | None = None) -> Facts | str:
    """Whether Ollama at `url` is ready to answer with `model`, or a sentence saying why not yet.
    It is sent the token of the file, if there is one.

    Raises ServiceError with Ollama's own words if the model fails.
    """
    # Once the jobs are on their way: to load both takes a while.
    from engines.ollama import OLLAMA
    from hpc.web import NoAnswer, asking

    try:
        ask = asking(url, post_s=TOKEN_TIMEOUT_S, token_file=token_file)
        return OLLAMA.ready(ask, "", model, f"Ollama at {url}")
    except NoAnswer as error:
        return error.message


def _target(launched: Launched) -> Target:
    """All replicas are ready, as `probe_ollama` says; what it finds of the last one."""

    token_file = launched.token_file

    def probe(addresses: list[str]) -> Facts | str:
        facts: Facts | str = ""
        for address in addresses:
            facts = probe_ollama(url_of(address, token_file), launched.model, token_file)
            if isinstance(facts, str):
                break
        return facts

    return Target("ollama", launched.record.jobs["ollama"], probe)


def _ready(launched: Launched, target: Target) -> Ready:
    facts: Facts = target.result
    model, version = facts.model, facts.version or ""
    loaded = {**asdict(model), "ollama_version": version, "where": model.where}
    return Ready(
        {"ollama": [url_of(address, launched.token_file) for address in target.addresses]},
        {"loaded_model": loaded, **launched.output.gpus(target.job_id)},
        _warnings(launched, model),
        f"{model.name} ({model.quantization or 'unknown'}) on {model.where}, Ollama {version}",
    )


def _warnings(launched: Launched, model: LoadedModel) -> list[str]:
    """What of the model is otherwise than asked for. Raises ServiceError when that is fatal."""
    service = launched.recipe.job.service
    misplaced = placement_problem(launched.record.gpus, model, service.num_gpu)
    imprecise = precision_problem(launched.recipe, model)
    for problem, fatal in (
        (misplaced, not service.allow_cpu),
        (imprecise, service.require_precision),
    ):
        if problem and fatal:
            tail = launched.output.log_tail("ollama", launched.record.jobs["ollama"], 5)
            raise ServiceError(f"{problem}.", tail)
    unsealed = [
        f"others on the engines' nodes reach them on loopback, since they cannot be sealed ({why})"
        for why in launched.output.unsealed(launched.record.jobs["ollama"])
    ]
    return [*filter(None, (misplaced, imprecise)), *_left_out(launched), *unsealed]


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


def placement_problem(gpus: int, model: LoadedModel, layers: int | None = None) -> str | None:
    """A sentence if GPUs were asked for and the model does not sit on them. `layers`: how many of
    it the recipe has there."""
    if gpus == 0 or layers == 0 or model.where == "gpu" or (layers and model.where != "cpu"):
        return None
    on_gpus, size = ((part or 0) / 1024**3 for part in (model.size_vram, model.size))
    return (
        f"{gpus} GPU(s) per node were asked for, but {model.name} sits on {model.where}: "
        f"{on_gpus:.2f} of {size:.2f} GiB are in GPU memory; look for "
        'the cause in the Ollama log, ask for "gpus": 0, or accept it with "allow_cpu": true'
    )


def precision_problem(recipe: Recipe, model: LoadedModel) -> str | None:
    """A sentence if the recipe's precision is not the one of the loaded model."""
    from engines.ollama import same_precision

    asked = recipe.job.service.precision
    if asked is None or same_precision(asked, model.quantization or ""):
        return None
    return (
        f"the recipe says precision {asked}, but {model.name} is {model.quantization or 'unknown'}:"
        f" use a model of that precision{_tags(recipe.job.service.model, asked)}, or correct the "
        "recipe"
    )


def _tags(model: str, precision: str) -> str:
    """Where the tags of a model of Ollama's registry are listed; empty for others."""
    if is_model_path(model) or (name := parse(model)).host != HOST:
        return ""
    return (
        f" (a tag such as {str(name).partition(':')[0]}:…-{precision.lower()}, listed at "
        f"https://ollama.com/{name.namespace}/{name.model}/tags)"
    )


SERVICE = Service(
    "ollama",
    setup_ollama,
    _target,
    _ready,
    wanted=lambda plan: plan.ollama is not None,
    measured=True,
)
