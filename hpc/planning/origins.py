"""Where the models of a recipe come from: a file, what was fetched before, the group's store, or a
registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engines.models.gguf import other_parts
from engines.names import parse
from engines.servers.deployable import DEPLOYED
from hpc.endpoints import HUB_MODELS
from hpc.planning.manifests import Layers, blob_path, incomplete, layers_here, place_of, read_layers
from hpc.planning.parts import Notes
from hpc.recipe.folders import files_of, served_name
from hpc.recipe.links import way_to
from hpc.recipe.reading import models_of, ollama_name
from hpc.recipe.schema import Recipe, Service
from hpc.recipe.values import is_model_path
from hpc.site import Site

#: A file by its path; the folder of models of the output directory; the site's model_store; or
#: nothing that is here.
Kind = Literal["file", "own", "store", "registry"]


@dataclass(frozen=True)
class Origin:
    """Where a model comes from. `words`: that, for people. `path`: of its weights, None if they are
    not here. `layers`: its manifest's, in `folder`. `problem`: a sentence if the store should have
    it, and has not."""

    model: str
    kind: Kind
    words: str
    path: Path | None = None
    folder: Path | None = None
    layers: Layers | None = None
    problem: str = ""

    @property
    def in_ollamas_layout(self) -> bool:
        """Whether the store has it as Ollama keeps models."""
        return self.kind == "store" and self.layers is not None

    @property
    def files(self) -> list[Path]:
        """All files that are read of it, of links all on their way: a container has no other."""
        if self.layers is not None and self.folder is not None:
            return [blob_path(digest, self.folder).resolve() for digest in self.layers.blobs]
        if self.path is None:
            return []
        if self.path.is_dir():
            return files_of(self.path)
        parts = [self.path, *other_parts(self.path)]
        return [one for part in parts for one in way_to(part)]


def hub_folder(model: str, models: Path) -> Path:
    """Where a model of Hugging Face's hub is once it was fetched; a path stays what it is."""
    return models.with_name(HUB_MODELS) / model


def origin_of(model: str, models: Path, store: Path | None, takes: str = "name") -> Origin:
    """Where a recipe's model comes from; `models`: Ollama's folder of the output directory, which
    goes before the site's `store`; `takes`: what its engine is given. Nobody but their files is
    asked."""
    if is_model_path(model):
        path = Path(model)
        kept = store is not None and path.is_relative_to(store.resolve())
        words = (
            f"the model store {store}" if kept else f"its {'folder' if path.is_dir() else 'file'}"
        )
        return Origin(model, "store" if kept else "file", words, path)
    if takes == "folder":
        path = hub_folder(model, models)
        if path.is_dir():
            return Origin(model, "own", f"{path}, where it is already", path)
        return Origin(model, "registry", "huggingface.co: its job fetches it")
    layers = layers_here(model, models)
    if layers is not None:
        return _kept(model, "own", f"{models}, where it is already", models, layers)
    fetched = Origin(model, "registry", f"{parse(model).host}: its job fetches it")
    return fetched if store is None else _of_store(model, store, fetched)


def _of_store(model: str, store: Path, otherwise: Origin) -> Origin:
    """Its origin if the store has all of it; else `otherwise`, and why if that is the store's
    fault."""
    try:
        next(store.iterdir(), None)
    except OSError as error:
        problem = (
            f"the model store {store} cannot be read ({error.strerror}), so {model} is not taken "
            "from there: correct model_store in the site profile, or ask who keeps the store"
        )
        return replace(otherwise, problem=problem)
    try:
        layers = read_layers(model, store)
    except (FileNotFoundError, NotADirectoryError):
        return otherwise
    except OSError as error:
        layers, wrong = None, f"manifests/{place_of(model)}: {error.strerror}"
    else:
        wrong = "its manifest names no GGUF file" if layers is None else incomplete(layers, store)
    if layers is None or wrong:
        problem = (
            f"the model store {store} has only a part of {model} ({wrong}), so it is not taken from"
            " there: ask who keeps the store"
        )
        return replace(otherwise, problem=problem)
    return _kept(model, "store", f"the model store {store}", store, layers)


def _kept(model: str, kind: Kind, words: str, folder: Path, layers: Layers) -> Origin:
    return Origin(model, kind, words, blob_path(layers.digest, folder), folder, layers)


def origins_of(recipe: Recipe, models: Path, store: Path | None) -> tuple[Origin, ...]:
    """Where the models of a recipe come from; none of a server that is there already."""
    if recipe.job.service.server is not None:
        return ()
    model, *others = models_of(recipe)
    takes = DEPLOYED[recipe.job.service.engine].takes
    embedding = (origin_of(other, models, store) for other in others)
    return (origin_of(model, models, store, takes), *embedding)


def note_models(
    recipe: Recipe, site: Site, origins: Sequence[Origin], weights: str, notes: Notes
) -> str:
    """The name under which the model is served; notes it, where each model comes from, and what
    stands beside it in each plan."""
    service = recipe.job.service
    notes.add("site", site.name, "--site, or chosen by what is on PATH")
    model = service.model if service.server else _served_name(service)
    notes.add("model", model, "recipe" if model == service.model else f"recipe: {service.model}")
    if weights:
        notes.add("weights", weights, "the model's file or folder")
    for name, origin in zip(("model_from", "embedding_model_from"), origins, strict=False):
        notes.add(name, origin.words, "what is there")
    notes.add("time", recipe.job.infrastructure.time, "recipe")
    if service.idle_timeout:
        notes.add("idle_timeout", service.idle_timeout, "recipe")
    if service.on_request:
        notes.add("engine_job", "submitted by the first request, none at first", "on_request")
    return model


def _served_name(service: Service) -> str:
    in_a_folder = DEPLOYED[service.engine].takes == "folder"
    return served_name(service.model) if in_a_folder else ollama_name(service.model)
