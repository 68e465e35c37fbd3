"""What is known of a model before it is loaded: from its file, or else from its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from contracts.json_object import JsonObject
from engines.json_values import count_of, object_or_empty
from engines.models.gguf import BadGguf, Header, read_header
from engines.models.quantisations import DEFAULT, bytes_of, parameters_in, quantisation_in
from engines.names import parse
from hpc.recipe.folders import weights_in
from hpc.recipe.values import is_model_path

#: A manifest is a page of JSON.
MAX_MANIFEST_BYTES = 1_000_000
_LAYER = "application/vnd.ollama.image."
#: What is loaded beside a model's own weights.
_BESIDE = (f"{_LAYER}projector", f"{_LAYER}adapter")
_DIGEST = re.compile(r"sha256:[0-9a-f]+")


@dataclass(frozen=True)
class Found:
    """What is known of a model. `header`: of its file; without one there may be `weights`, bytes by
    its name. `further`: bytes of a projector or an adapter. `source`: where that is from;
    `problem`: a sentence on what is not known. `here`: its file is, or what is in its place."""

    name: str
    source: str
    header: Header | None = None
    weights: int | None = None
    further: int = 0
    problem: str = ""
    here: bool = False


@dataclass(frozen=True)
class Layers:
    """The parts of a model in Ollama's manifest: digest and bytes of its weights, bytes of what is
    loaded beside them."""

    digest: str
    size: int
    further: int


def find_model(model: str, models: Path) -> Found:
    """What is known of a recipe's model here; `models`: Ollama's folder. Nobody else is asked."""
    if is_model_path(model) and Path(model).is_dir():
        problem = f"what the KV cache of {model} takes is not known: it is no GGUF file"
        return Found(model, "its folder", weights=weights_in(Path(model)), problem=problem)
    if is_model_path(model):
        return _of_file(model, Path(model), "its file")
    layers = _layers_here(model, models)
    if layers is None:
        return by_name(model)
    return _of_file(model, _blob(layers, models), f"its file in {models}", layers.further)


def blob_of(model: str, models: Path) -> Path | None:
    """The GGUF file of a name in Ollama's folder; None if that has no manifest of it."""
    layers = _layers_here(model, models)
    return None if layers is None else _blob(layers, models)


def _blob(layers: Layers, models: Path) -> Path:
    return models / "blobs" / layers.digest.replace(":", "-")


def _of_file(model: str, path: Path, source: str, further: int = 0) -> Found:
    try:
        return Found(model, source, read_header(path), further=further, here=True)
    except (OSError, BadGguf) as error:
        why = error.strerror if isinstance(error, OSError) else error
        problem = f"{path} is no whole GGUF file ({why}): fetch or copy it again"
        return Found(model, source, problem=problem, here=True)


def by_name(model: str) -> Found:
    """About how large a model is by its name."""
    parameters = parameters_in(model)
    if parameters is None:
        return Found(
            model, "nothing", problem=f"{model} is not here yet, and its name does not say its size"
        )
    quantisation = quantisation_in(model) or DEFAULT
    return Found(
        model,
        f"its name, as {quantisation}: an estimate",
        weights=bytes_of(parameters, quantisation),
        problem=f"{model} is not here yet, so its KV cache is not known: see --fit RECIPE",
    )


def _layers_here(model: str, models: Path) -> Layers | None:
    name = parse(model)
    manifest = models / "manifests" / name.host / name.namespace / name.model / name.tag
    try:
        with manifest.open("rb") as file:
            return layers_of(object_or_empty(file.read(MAX_MANIFEST_BYTES)))
    except OSError:
        return None


def layers_of(manifest: JsonObject) -> Layers | None:
    """The parts of a model by its manifest; None if that has no weights in a GGUF file."""
    found = manifest.get("layers")
    layers = (
        [layer for layer in found if isinstance(layer, dict)] if isinstance(found, list) else []
    )
    weights = next((layer for layer in layers if layer.get("mediaType") == f"{_LAYER}model"), None)
    if weights is None or not _DIGEST.fullmatch(str(weights.get("digest"))):
        return None
    beside = [layer for layer in layers if layer.get("mediaType") in _BESIDE]
    further = sum(count_of(layer, "size") or 0 for layer in beside)
    return Layers(str(weights["digest"]), count_of(weights, "size") or 0, further)
