"""What is known of a model before it is loaded: from its file, or else from its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines.models.config import CONFIG, BadConfig, Config, read_config
from engines.models.gguf import BadGguf, Header, read_header
from engines.models.quantisations import DEFAULT, bytes_of, parameters_in, quantisation_in
from hpc.planning.origins import Origin
from hpc.recipe.folders import weights_in


@dataclass(frozen=True)
class Found:
    """What is known of a model. `header`: of its file, or `config`: of its folder; without them
    there may be `weights`, bytes by its name. `further`: bytes of a projector or an adapter.
    `source`: where that is from; `problem`: a sentence on what is not known. `here`: its file is,
    or what is in its place."""

    name: str
    source: str
    header: Header | None = None
    config: Config | None = None
    weights: int | None = None
    further: int = 0
    problem: str = ""
    here: bool = False


def find_model(origin: Origin) -> Found:
    """What is known of a recipe's model by where it comes from. Nobody else is asked."""
    if origin.path is None:
        return by_name(origin.model)
    if origin.path.is_dir():
        return _of_folder(origin.model, origin.path)
    if origin.layers is None:
        return _of_file(origin.model, origin.path, origin.words)
    source = f"its file in {origin.folder}"
    return _of_file(origin.model, origin.path, source, origin.layers.further)


def _of_file(model: str, path: Path, source: str, further: int = 0) -> Found:
    try:
        return Found(model, source, read_header(path), further=further, here=True)
    except (OSError, BadGguf) as error:
        why = error.strerror if isinstance(error, OSError) else error
        problem = f"{path} is no whole GGUF file ({why}): fetch or copy it again"
        return Found(model, source, problem=problem, here=True)


def _of_folder(model: str, path: Path) -> Found:
    weights = weights_in(path)
    try:
        return Found(model, f"its {CONFIG}", config=read_config(path, weights))
    except (OSError, BadConfig) as error:
        why = error.strerror if isinstance(error, OSError) else error
        problem = f"what the KV cache of {model} takes is not known: {path / CONFIG}: {why}"
        return Found(model, "its folder", weights=weights, problem=problem)


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
