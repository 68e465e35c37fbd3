"""Reading a recipe: checked, its paths made absolute, its models named as Ollama lists them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NoReturn

from contracts.errors import UsageError
from contracts.files import expanded, read_json_strictly
from engines.models.gguf import first_part, other_parts
from engines.names import TAG, BadName, parse, short_name
from engines.servers.deployable import DEPLOYED
from hpc.recipe.batch import BatchFiles, batch_at, working_off
from hpc.recipe.folders import folder_at, no_folder
from hpc.recipe.links import model_file, real_path
from hpc.recipe.schema import Recipe
from hpc.recipe.sections import Batch, Retrieval
from hpc.recipe.values import is_model_path, looks_like_path
from hpc.recipe.words import count, validate
from retrieval.errors import NoDocuments
from retrieval.finding import find_files

_IN_PARTS = (
    "is one of several parts of a GGUF file, and Ollama imports one file alone: join them "
    '(llama-gguf-split --merge FIRST_PART WHOLE), or take "engine": "llama.cpp"'
)


def load_recipe(path: Path, store: Path | None = None, batch: BatchFiles | None = None) -> Recipe:
    """Read, check and normalise the recipe at `path`; `store`: the site's folder of models. With a
    `batch` it is worked off in place of what the recipe would have asked or measured.

    Models given as paths are made absolute and must be readable GGUF files; so are documents, and
    must exist; a batch must begin with lines that can be asked. Raises UsageError with every error
    of the file, each with its JSON path.
    """
    return recipe_of(read_json_strictly(path, "recipe"), path, store, batch)


def recipe_of(
    data: object, path: Path, store: Path | None = None, batch: BatchFiles | None = None
) -> Recipe:
    """The same of `data` (parsed JSON), which stands, or was made from what stands, at `path`."""
    recipe = parse_recipe(data, f"recipe {path}")
    service = recipe.job.service
    if batch is not None:
        service = working_off(service, batch, path)
    found: dict[str, str | Retrieval | Batch] = {}
    if service.batch:
        found["batch"] = batch_at(service.batch, path)
    if service.server is None:  # else the name is that server's affair
        found["model"] = _model_of(service.engine, service.model, path, store)
    if service.wanted_retrieval:
        found["retrieval"] = _with_paths(service.wanted_retrieval, path, store)
    service = service.model_copy(update=found)
    return recipe.model_copy(update={"job": recipe.job.model_copy(update={"service": service})})


def _model_of(engine: str, model: str, recipe: Path, store: Path | None) -> str:
    """The model that answers, as its engine is given models."""
    key = "job.service.model"
    if DEPLOYED[engine].takes != "folder":
        found = _model_at(model, recipe, key, store)
        imports = DEPLOYED[engine].takes == "name" and is_model_path(found)
        if imports and other_parts(Path(found)):
            _refuse(recipe, [f"{key} = {found!r}: {_IN_PARTS}"])
        return found
    try:
        return folder_at(model, recipe.parent, in_store(model, store))
    except ValueError as error:
        _refuse(recipe, [f"{key} = {model!r}: {error}; {DEPLOYED[engine].title} takes a folder "
                         "with config.json and *.safetensors"])  # fmt: skip


def _with_paths(retrieval: Retrieval, recipe: Path, store: Path | None) -> Retrieval:
    key = "job.service.retrieval"
    embedding = _model_at(retrieval.embedding_model, recipe, f"{key}.embedding_model", store)
    documents = [_path_at(document, recipe) for document in retrieval.documents]
    wrong = [f"{key}.documents: {problem}" for path in documents if (problem := _no_files(path))]
    if wrong:
        _refuse(recipe, wrong)
    return retrieval.model_copy(
        update={"embedding_model": embedding, "documents": [str(path) for path in documents]}
    )


def _no_files(path: Path) -> str | None:
    try:
        find_files([path])
    except NoDocuments as error:
        return str(error)
    return None


def _path_at(text: str, recipe: Path) -> Path:
    """An absolute path; a relative one starts at the recipe's folder."""
    return real_path(recipe.parent / expanded(text))


def _model_at(model: str, recipe: Path, key: str, store: Path | None) -> str:
    """`model`, or the absolute path of its file: a path is what is the path of a GGUF file here or
    in the store, or can be nothing else, which must then be one."""
    given = recipe.parent / expanded(model)
    if (first := first_part(given)) is not None:
        _refuse(recipe, [f"{key} = {model!r}: is a later part of a model; name the first, {first}"])
    path, stored = model_file(given), in_store(model, store)
    wrong = not_gguf(path)
    if not wrong:
        return str(path)
    if stored is not None and not not_gguf(stored):
        return str(stored)
    if looks_like_path(model):
        why = f"; in the model store, {stored} {not_gguf(stored)}" if stored else ""
        _refuse(recipe, [f"{key} = {str(path)!r}: {wrong}{why}{_as_name(model)}"])
    return model


def in_store(model: str, store: Path | None) -> Path | None:
    """Where a recipe's model would be in truth that the site's store has; None if there is no
    store, or what is written leads out of it, or to the recipe's own folder."""
    if store is None or model.startswith(("/", "./", "~")) or ".." in model.split("/"):
        return None
    return model_file(store / model)


def parse_recipe(data: object, what: str = "recipe") -> Recipe:
    """The recipe that `data` (parsed JSON) describes. Raises UsageError with all errors."""
    return validate(Recipe, data, what)


def not_gguf(model: Path) -> str | None:
    """What keeps a path from being that of a GGUF file; None: it is one."""
    try:
        if model.is_dir() and no_folder(model) is None:
            return 'is a folder, which "vllm" takes, not a GGUF file'
        if model.exists() and not model.is_file():  # reading a pipe would wait
            return "is not a GGUF file"
        with model.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if magic == b"GGUF" else "is not a GGUF file"


def _as_name(model: str) -> str:
    """How a text that was taken for a path is written if it was meant as a model's name."""
    parts = model.split("/")
    name = f"{'/'.join(parts[:-1])}:{parts[-1]}" if len(parts) > 3 else f"{model}:{TAG}"
    try:
        parse(name)
    except BadName:
        return ""
    return f"; if it is a model's name in Ollama, write it with its tag: {name}"


def _refuse(recipe: Path, lines: list[str]) -> NoReturn:
    raise UsageError(f"recipe {recipe} is not valid: {count(lines)}", lines)


def ollama_name(model: str) -> str:
    """The name under which Ollama lists a recipe's model.

    A file's name gets a tag made from its path, size and time of change, so that two files of one
    name, or two versions of one file, never pass for each other.
    """
    if not is_model_path(model):
        return short_name(model)
    path = Path(model)
    stat = path.stat()
    stamp = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    stem = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._") or "model"
    return f"{stem[:60]}:{hashlib.sha256(stamp.encode()).hexdigest()[:8]}"


def models_of(recipe: Recipe) -> list[str]:
    """The models of a recipe as it names them: the one that answers, and the one that embeds."""
    service = recipe.job.service
    return [service.model, *([r.embedding_model] if (r := service.wanted_retrieval) else [])]
