"""--fit RECIPE: whether its model fits into memory, what other settings would cost, and what would
fit. Nothing is submitted."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from contracts.errors import UsageError
from engines.json_values import object_or_empty
from engines.models.config import CONFIG, MOST_BYTES, BadConfig, config_of
from engines.models.gguf import BadGguf, beginning
from engines.names import parse
from engines.servers.deployable import DEPLOYED
from hpc.commands.deploy import plan_of
from hpc.console import Console, columns
from hpc.endpoints import OutputDir
from hpc.planning.costs import CONTEXT_STEP, Costs, Quantisation, costs_of, quantisations_of
from hpc.planning.fitting import judged, require_fit
from hpc.planning.manifests import MAX_MANIFEST_BYTES, layers_of
from hpc.planning.memory import Fit, Part, size
from hpc.planning.model_files import Found
from hpc.recipe.folders import weights_listed
from hpc.web import NoAnswer, download

#: Architectures' keys, which come first in a file, take a few kB.
_BEGINNING = 1 << 18
#: Of a hub's list of the files of a model.
_MOST_LISTED = 1 << 20
_MANIFEST = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
_FITS = {True: "fits", False: "does not fit", None: "not known"}


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Print whether the models of a recipe fit; or with --json the figures.

    Raises UsageError if a file is broken, or the recipe requires what does not fit.
    """
    plan, _ = plan_of(given.fit, given.site, output, monitoring=False, to_fit=False)
    if plan.fit is None:
        raise UsageError(
            "the recipe measures a server that is there already (job.service.server): nothing of "
            "it is to fit anywhere."
        )
    takes = DEPLOYED[plan.recipe.job.service.engine].takes
    ways = [_ask_hub if takes == "folder" else _ask_registry, _ask_registry]
    plan = judged(plan, list(map(_known, plan.fit.parts, ways)))
    fit = plan.fit
    assert fit is not None
    costs, others = costs_of(fit), quantisations_of(fit)
    if given.json:
        console.json(asdict(_figures(fit, costs, others)))
    else:
        for line in [*_about(fit), *_costs(fit, costs), *_others(others)]:
            console.say(line)
    require_fit(plan)


# --- what is not here ----------------------------------------------------------------------------


def _known(part: Part, ask: Callable[[Found], Found]) -> Found:
    """What is known of a model; of one that is not here, what is said where it comes from, if that
    answers. Raises UsageError if its file is broken."""
    found = part.found
    if found.header is not None or found.config is not None:
        return found
    if found.here:
        raise UsageError(f"{found.problem}.")
    return ask(found)


def _ask_registry(found: Found) -> Found:
    """What the registry of a model says of it: by its manifest, and the beginning of its file."""
    name = parse(found.name)
    base = f"https://{name.host}/v2/{name.namespace}/{name.model}"
    url = f"{base}/manifests/{name.tag}"
    try:
        layers = layers_of(object_or_empty(download(url, _MANIFEST, MAX_MANIFEST_BYTES)))
        if layers is None:
            return replace(found, problem=f"{url} names no GGUF file of weights")
        source = f"the registry {name.host}"
        found = replace(found, source=source, weights=layers.size, further=layers.further)
        wanted = {"Range": f"bytes=0-{_BEGINNING - 1}"}
        data = download(f"{base}/blobs/{layers.digest}", wanted, _BEGINNING)
        return replace(found, header=beginning(data, layers.size), problem="")
    except (NoAnswer, BadGguf) as error:
        return replace(found, problem=_not_said(found, error))


def _ask_hub(found: Found) -> Found:
    """What Hugging Face's hub says of a model: by its list of files, and its config.json."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{hub}/{found.name}/resolve/main/{CONFIG}"
    try:
        files = download(f"{hub}/api/models/{found.name}/tree/main", {}, _MOST_LISTED)
        found = replace(found, source=f"the hub {hub}", weights=weights_listed(files))
        config = config_of(download(url, {}, MOST_BYTES), found.weights or 0)
        return replace(found, config=config, problem="")
    except (NoAnswer, BadConfig, ValueError) as error:
        return replace(found, problem=_not_said(found, error))


def _not_said(found: Found, error: Exception) -> str:
    return f"what {found.name} takes is not known before it is here, since {error}"


# --- for people ----------------------------------------------------------------------------------


def _about(fit: Fit) -> list[str]:
    lines = [f"model    {part.found.name} (by {part.found.source})" for part in fit.parts]
    lines += [f"memory   {fit.line}", f"there    {fit.room}"]
    return [*lines, *([f"WARNING  {fit.problem}"] if fit.problem else [])]


def _costs(fit: Fit, costs: Costs) -> list[str]:
    if not any(part.need for part in fit.parts):
        return []
    serving = fit.serving
    rows = [
        ["setting", "memory", "at most"],
        ["num_parallel, one more", _more(costs.slot_bytes), _at_most(costs.largest_num_parallel)],
        [f"context_length, {CONTEXT_STEP} more", _more(costs.tokens_1024_bytes),
         _at_most(costs.largest_context_length)],
    ]  # fmt: skip
    for kind, more in costs.kv_cache_type_bytes.items():
        if kind != serving.kv_cache_type:
            rows.append([f"kv_cache_type {kind}", _more(more), ""])
    return ["", *columns(rows)]


def _others(others: list[Quantisation]) -> list[str]:
    if not others:
        return []
    rows = [["quantisation", "weights", ""]]
    rows += [
        [other.name, f"about {size(other.weights_bytes)}", _FITS[other.fits]] for other in others
    ]
    return ["", *columns(rows)]


def _more(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{size(abs(count))}"


def _at_most(most: int | None) -> str:
    return "not known" if most is None else str(most) if most else "none fits"


# --- for programs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelFigures:
    """A model; what is not known of it is null. `ollama_size_bytes`: what /api/ps will say, if the
    engine is Ollama."""

    name: str
    source: str
    weights_bytes: int | None
    kv_cache_bytes: int | None
    compute_bytes: int | None
    ollama_size_bytes: int | None
    context_length: int | None
    num_parallel: int | None


@dataclass(frozen=True)
class Figures:
    """What --fit --json prints; docs/memory.md says what its keys mean."""

    fits: bool | None
    unknown: str
    needed_bytes: int
    memory_bytes: int | None
    gpus: int
    models: list[ModelFigures]
    costs: Costs
    quantisations: list[Quantisation]


def _figures(fit: Fit, costs: Costs, others: list[Quantisation]) -> Figures:
    unknown = fit.unknown if fit.fits is None else ""
    models = [_model_figures(part, fit.serving.engine) for part in fit.parts]
    return Figures(
        fit.fits, unknown, fit.needed, fit.room.each, fit.room.gpus, models, costs, others
    )


def _model_figures(part: Part, engine: str) -> ModelFigures:
    found, need = part.found, part.need
    if need is None:
        return ModelFigures(found.name, found.source, found.weights, None, None, None, None, None)
    return ModelFigures(
        found.name,
        found.source,
        need.weights,
        need.kv_cache,
        need.compute,
        need.reported if engine == "ollama" else None,
        need.context_length,
        need.num_parallel,
    )
