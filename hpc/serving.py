"""What the rooms of engines share: the values of their templates, when an engine is ready, and what
is otherwise than asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import ServiceError
from contracts.job_files import url_of
from engines.names import HOST, parse
from engines.servers.deployable import DEPLOYED
from engines.servers.deployed import Deployed
from hpc.deployment import Deployment
from hpc.deployments.engine_notes import engine_notes
from hpc.deployments.loading import loading_of, loading_words
from hpc.following.target import Target
from hpc.images import client_image, engine_image
from hpc.planning.parts import JobPlan
from hpc.planning.plan import Plan
from hpc.recipe.schema import Recipe
from hpc.recipe.values import is_model_path
from hpc.service import Launched, Ready, Service

if TYPE_CHECKING:
    from engines.engine import Facts, LoadedModel

#: A first token may wait for the model to be loaded again.
TOKEN_TIMEOUT_S = 300.0


def job_of(plan: Plan, engine: Deployed) -> JobPlan | None:
    """The job of that engine; None if a plan has none."""
    return plan.engine if plan.engine and plan.engine.service == engine.service else None


def submit_engine(data: Deployment, engine: Deployed, job: JobPlan, **more: object) -> str:
    """Render and submit an engine's job with what each template is given, and `more`. Returns its
    id. Raises SchedulerError."""
    plan, service = data.plan, data.plan.recipe.job.service
    values: dict[str, object] = {
        "service": engine.service,
        "allowed": engine.allowed,
        "health": engine.health,
        "exporter": engine.exporter or "",
        "metrics": engine.metrics,
        "target": engine.target,
        "image": engine_image(plan.site, engine),
        "client_image": client_image(plan.site),
        "model_folders": _model_folders(data),
        "origin": plan.origins[0].kind if plan.origins else "file",
        "staging": plan.staging,
        "nodes": plan.recipe.job.infrastructure.nodes,
        "per_node": plan.replicas_per_node,
        "replicas": plan.replicas,
        "gpus": plan.gpus,
        "gpus_each": plan.gpus // plan.replicas_per_node,
        "num_thread": service.num_thread or "",
        "num_parallel": plan.num_parallel,
        "context_length": service.context_length,
    }
    return data.submit(job, depends_on=(), later=service.on_request, **values, **more)


def _model_folders(data: Deployment) -> list[str]:
    """Folders of files of models, beside the output directory, that its container is to see."""
    folders = {file.parent for origin in data.plan.origins for file in origin.files}
    ours = data.output.path.resolve()
    return sorted(str(folder) for folder in folders if not folder.is_relative_to(ours))


def _no_more(_: Launched) -> list[str]:
    return []


def engine_service(
    engine: Deployed,
    set_up: Callable[[Deployment], str],
    warnings: Callable[[Launched], list[str]] = _no_more,
) -> Service:
    """The service of an engine, whose job `set_up` submits. `warnings`: what it does otherwise than
    asked for, beside what is found of each."""

    def ready(launched: Launched, target: Target) -> Ready:
        found = _ready(engine, launched, target)
        return replace(found, warnings=[*found.warnings, *warnings(launched)])

    return Service(
        engine.service,
        set_up,
        lambda launched: _target(engine, launched),
        ready,
        wanted=lambda plan: job_of(plan, engine) is not None,
        measured=True,
    )


# --- ready ---------------------------------------------------------------------------------------


def probe(engine: Deployed, url: str, model: str, token_file: Path | None = None) -> Facts | str:
    """Whether an engine at `url` is ready to answer with `model`, or a sentence saying why not yet.
    It is sent the token of the file, if there is one.

    Raises ServiceError with the engine's own words if the model fails.
    """
    # Once the jobs are on their way: to load it takes a while.
    from hpc.web import NoAnswer, asking

    try:
        ask = asking(url, post_s=TOKEN_TIMEOUT_S, token_file=token_file)
        return engine.engine.ready(ask, engine.engine.usual_root, model, f"{engine.title} at {url}")
    except NoAnswer as error:
        return error.message


def _target(engine: Deployed, launched: Launched) -> Target:
    """All replicas are ready, as `probe` says; what it finds of each."""
    token_file = launched.token_file

    def probe_all(addresses: list[str]) -> Probed | str:
        found = []
        for address in addresses:
            facts = probe(engine, url_of(address, token_file), launched.model, token_file)
            if isinstance(facts, str):
                return facts
            found.append(facts)
        return Probed(tuple(addresses), tuple(found)) if found else ""

    return Target(engine.service, launched.record.jobs[engine.service], probe_all)


@dataclass(frozen=True)
class Probed:
    """What was found of each replica, at its address."""

    addresses: tuple[str, ...]
    found: tuple[Facts, ...]

    @property
    def facts(self) -> Facts:
        """Of the one that has the least part of the model on GPUs."""
        return min(self.found, key=_part_on_gpus)

    def misplaced(self, elsewhere: Sequence[int], layers: int | None) -> str:
        """Where those of several replicas are whose model is not on GPUs as asked for, by what they
        say, or by their numbers `elsewhere`; "" if there is one alone."""
        if len(self.found) == 1:
            return ""
        said = [n for n, facts in enumerate(self.found) if facts.model.size_vram is not None]
        wrong = [n for n in said if not _well_placed(self.found[n].model, layers)]
        numbers = sorted({*wrong, *(n for n in elsewhere if n < len(self.addresses))})
        return ", ".join(self.addresses[n] for n in numbers)


def _part_on_gpus(facts: Facts) -> float:
    return (facts.model.size_vram or 0) / (facts.model.size or 1)


def _ready(engine: Deployed, launched: Launched, target: Target) -> Ready:
    probed: Probed = target.result
    facts = probed.facts
    model = _placed(launched, target, facts.model)
    version = facts.version or engine_notes(launched.output.path, target.job_id).version
    loaded = {**asdict(model), engine.version_key: version, "where": model.where}
    loading = loading_of(launched.output.path / "logs", target.job_id)
    urls = [url_of(address, launched.token_file) for address in target.addresses]
    return Ready(
        {engine.service: urls},
        {
            "loaded_model": loaded,
            "loading": loading,
            **launched.output.gpus(target.job_id),
            **launched.output.replicas(target.job_id, urls),
        },
        _warnings(engine, launched, probed, model),
        ", ".join(
            (
                f"{model.name} ({model.quantization or 'unknown'}) on {model.where}",
                f"{engine.title} {version}".rstrip(),
                *loading_words(loading),
            )
        ),
    )


def _placed(launched: Launched, target: Target, model: LoadedModel) -> LoadedModel:
    """With where it sits, and how large it is, by its job if the engine itself does not say it."""
    notes = engine_notes(launched.output.path, target.job_id)
    model = replace(
        model,
        quantization=model.quantization or notes.quantization,
        size=model.size or notes.size,
    )
    known = model.size_vram is not None or not notes.on_gpus
    return model if known else replace(model, size_vram=model.size)


def _warnings(
    engine: Deployed, launched: Launched, probed: Probed, model: LoadedModel
) -> list[str]:
    """What of the model is otherwise than asked for. Raises ServiceError when that is fatal."""
    service, job_id = launched.recipe.job.service, launched.record.jobs[engine.service]
    elsewhere = engine_notes(launched.output.path, job_id).off_gpus
    where = probed.misplaced(elsewhere, service.num_gpu)
    misplaced = placement_problem(launched.record.gpus, model, engine.title, service.num_gpu, where)
    imprecise = precision_problem(launched.recipe, model)
    for problem, fatal in (
        (misplaced, not service.allow_cpu),
        (imprecise, service.require_precision),
    ):
        if problem and fatal:
            tail = launched.output.log_tail(engine.service, job_id, 5)
            raise ServiceError(f"{problem}.", tail)
    unsealed = [
        f"others on the engines' nodes reach them on loopback, since they cannot be sealed ({why})"
        for why in launched.output.unsealed(job_id)
    ]
    return [*filter(None, (misplaced, imprecise)), *unsealed]


def placement_problem(
    gpus: int, model: LoadedModel, title: str, layers: int | None = None, replicas: str = ""
) -> str | None:
    """A sentence if GPUs were asked for and the model does not sit on them. `layers`: how many of
    it the recipe has there; `replicas`: where those of several are of which it is said."""
    if gpus == 0 or layers == 0 or _well_placed(model, layers):
        return None
    at = f" at {replicas}" if replicas else ""
    on_gpus, size = ((part or 0) / 1024**3 for part in (model.size_vram, model.size))
    return (
        f"{gpus} GPU(s) per node were asked for, but {model.name} sits on {model.where}{at}: "
        f"{on_gpus:.2f} of {size:.2f} GiB are in GPU memory; look for "
        f'the cause in the {title} log, ask for "gpus": 0, or accept it with "allow_cpu": true'
    )


def _well_placed(model: LoadedModel, layers: int | None) -> bool:
    return model.where == "gpu" or bool(layers and model.where != "cpu")


def precision_problem(recipe: Recipe, model: LoadedModel) -> str | None:
    """A sentence if the recipe's precision is not the one of the loaded model."""
    from engines.ollama import same_precision

    asked, service = recipe.job.service.precision, recipe.job.service
    tags = "" if DEPLOYED[service.engine].takes == "folder" else _tags(service.model, str(asked))
    if asked is None or same_precision(asked, model.quantization or ""):
        return None
    return (
        f"the recipe says precision {asked}, but {model.name} is {model.quantization or 'unknown'}:"
        f" use a model of that precision{tags}, or correct the "
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
