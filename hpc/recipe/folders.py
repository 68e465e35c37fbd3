"""Models of Hugging Face's layout: a folder with config.json and weights in *.safetensors, by its
path, or the name under which the hub has it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from contracts.files import expanded
from engines.json_values import count_of
from engines.models.config import CONFIG
from engines.servers.deployable import DEPLOYED
from hpc.recipe.links import real_path, way_to
from hpc.recipe.values import is_model_path, looks_like_path

WEIGHTS = "*.safetensors"
#: NAMESPACE/NAME, as the hub takes them.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def no_folder(path: Path) -> str | None:
    """What keeps a path from being that of a model's folder; None: it is one."""
    try:
        if path.is_file():
            return _no_folder_but_a_file(path)
        missing = next((name for name in (CONFIG, WEIGHTS) if not any(path.glob(name))), None)
        names = [entry.name for entry in path.iterdir()]
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if missing is None:
        read = [name for name in sorted(names) if name == CONFIG or fnmatch(name, WEIGHTS)]
        lost = next((name for name in read if not os.access(path / name, os.R_OK)), None)
        return lost and f"is not whole: {lost} cannot be read; fetch or copy it again"
    instead = " (its weights are GGUF files)" if any(map(_is_gguf, names)) else ""
    return f"is not a model's folder: it has no {missing}{instead}"


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def _no_folder_but_a_file(path: Path) -> str:
    with path.open("rb") as file:
        gguf = file.read(4) == b"GGUF"
    others = " or ".join(f'"{name}"' for name, one in DEPLOYED.items() if one.takes != "folder")
    return f"is a GGUF file, which {others} takes" if gguf else "is a file, not a model's folder"


def folder_at(model: str, base: Path, stored: Path | None = None) -> str:
    """The absolute path of a recipe's model, or its name if that is what it says; relative paths
    start at `base`, or it is `stored`. Raises ValueError with what is wrong with it."""
    path = real_path(base / expanded(model))
    wrong = no_folder(path)
    if wrong is None:
        return str(path)
    if stored is not None and no_folder(stored) is None:
        return str(stored)
    if looks_like_path(model) or path.exists():
        raise ValueError(f"{path} {wrong}")
    if not _HUB_NAME.fullmatch(model) or ".." in model:
        raise ValueError(
            f"{model!r} is no folder here, nor a name of Hugging Face's hub, such as "
            "Qwen/Qwen2.5-0.5B-Instruct"
        )
    return model


def served_name(model: str) -> str:
    """The name under which a model is served: the hub's, or the folder's with a tag that other
    files there, or other versions of them, do not have."""
    if not is_model_path(model):
        return model
    path = Path(model)
    files = sorted([*path.glob(CONFIG), *path.glob(WEIGHTS)])
    stamps = [f"{file}\0{(s := file.stat()).st_size}\0{s.st_mtime_ns}" for file in files]
    digest = hashlib.sha256("\0".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()
    stem = re.sub(r"[^a-z0-9._-]+", "-", path.name.lower()).strip("-._") or "model"
    return f"{stem[:60]}:{digest[:8]}"


def files_of(folder: Path) -> list[Path]:
    """The files of a model's folder, and of those that are links all on their way: a container must
    be shown each."""
    files = [path for path in folder.iterdir() if path.is_file()]
    return [folder / CONFIG, *(one for path in files for one in way_to(path))]


def weights_in(folder: Path) -> int:
    """The bytes of all weights in a model's folder."""
    names = _loaded(file.name for file in folder.glob(WEIGHTS))
    return sum((folder / name).stat().st_size for name in names)


def _loaded(names: Iterable[str]) -> list[str]:
    """Those of the files of weights that are loaded: Mistral's models have all of them a second
    time, in a layout of their own."""
    found = list(names)
    return [name for name in found if not name.startswith("consolidated")] or found


def weights_listed(files: bytes) -> int:
    """The bytes of all weights of a model by a hub's list of its files. Raises ValueError if it is
    none, or names no weights."""
    listed = json.loads(files)
    if not isinstance(listed, list):
        raise ValueError("the hub's list of its files is none")
    entries = (entry for entry in listed if isinstance(entry, dict))
    sizes = {str(entry.get("path")): count_of(entry, "size") or 0 for entry in entries}
    names = [name for name in sizes if fnmatch(name, WEIGHTS) and "/" not in name]
    weights = sum(sizes[name] for name in _loaded(names))
    if not weights:
        raise ValueError(f"the hub lists no {WEIGHTS} of it")
    return weights
