"""Models as Ollama keeps them in a folder: manifests by their names, and blobs by their digests."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.json_object import JsonObject
from engines.json_values import count_of, object_or_empty
from engines.names import parse

#: A manifest is a page of JSON.
MAX_MANIFEST_BYTES = 1_000_000
_LAYER = "application/vnd.ollama.image."
#: What is loaded beside a model's own weights.
_BESIDE = (f"{_LAYER}projector", f"{_LAYER}adapter")
_DIGEST = re.compile(r"sha256:[0-9a-f]+")


@dataclass(frozen=True)
class Layers:
    """The parts of a model in Ollama's manifest: digest and bytes of its weights, bytes of what is
    loaded beside them. `blobs`: all of its files, with their bytes if the manifest says them."""

    digest: str
    size: int
    further: int
    blobs: Mapping[str, int | None]


def place_of(model: str) -> Path:
    """Where the manifest of a model's name is, below the folder of manifests."""
    name = parse(model)
    return Path(name.host, name.namespace, name.model, name.tag)


def read_layers(model: str, folder: Path) -> Layers | None:
    """The parts of a model by its manifest in a folder; None if that names no weights. Raises
    OSError if it is not there."""
    with (folder / "manifests" / place_of(model)).open("rb") as file:
        return layers_of(object_or_empty(file.read(MAX_MANIFEST_BYTES)))


def layers_here(model: str, folder: Path) -> Layers | None:
    """The same; None as well if it is not there."""
    try:
        return read_layers(model, folder)
    except OSError:
        return None


def blob_path(digest: str, folder: Path) -> Path:
    """Where a blob is in a folder of models."""
    return folder / "blobs" / digest.replace(":", "-")


def incomplete(layers: Layers, folder: Path) -> str:
    """What of a model is missing in a folder, or is not whole; "" if all of it is there."""
    for digest, size in layers.blobs.items():
        path = blob_path(digest, folder)
        try:
            found = path.stat().st_size
        except OSError as error:
            return f"{path.relative_to(folder)}: {error.strerror}"
        if size is not None and found != size:
            return f"{path.relative_to(folder)} has {found} bytes in place of {size}"
        if not os.access(path, os.R_OK):
            return f"{path.relative_to(folder)}: Permission denied"
    return ""


def layers_of(manifest: JsonObject) -> Layers | None:
    """The parts of a model by its manifest; None if that has no weights in a GGUF file."""
    found = manifest.get("layers")
    layers = (
        [layer for layer in found if isinstance(layer, dict)] if isinstance(found, list) else []
    )
    weights = next((layer for layer in layers if layer.get("mediaType") == f"{_LAYER}model"), None)
    config = manifest.get("config")
    entries = [config, *layers] if isinstance(config, dict) else layers
    blobs = {str(entry.get("digest")): count_of(entry, "size") for entry in entries}
    if weights is None or not all(map(_DIGEST.fullmatch, blobs)):
        return None
    beside = [layer for layer in layers if layer.get("mediaType") in _BESIDE]
    further = sum(count_of(layer, "size") or 0 for layer in beside)
    return Layers(str(weights["digest"]), count_of(weights, "size") or 0, further, blobs)
