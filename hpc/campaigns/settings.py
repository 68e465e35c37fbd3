"""What may be varied: paths of a recipe, and knobs of its load."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from functools import cache

from campaign.cells import Setting
from campaign.file import Search, Searched
from contracts.json_object import JsonObject
from contracts.load import LoadPerClient
from hpc.recipe.schema import Recipe
from hpc.recipe.words import key_paths

LOAD, SERVICE = "load.", "job.service."
#: What each run asks of its load: it restarts nothing.
KNOBS = frozenset(LoadPerClient.model_fields)
#: What a search for one of them does without: loads are of one kind or of the other.
_WITHOUT: Mapping[Searched, tuple[str, ...]] = {
    "rate": ("n_clients", "n_requests_per_client"),
    "n_clients": ("rate", "arrivals", "n_requests", "max_concurrency"),
}
#: What the campaign itself says.
_OURS = {"job.name": "the campaign names its deployments", "job": "it is no single value"}


@cache
def _known() -> tuple[str, ...]:
    paths = [path for path in key_paths(Recipe) if path != "$schema"]
    sections = {path.rpartition(".")[0] for path in paths}
    return (*(path for path in paths if path not in sections), *(LOAD + knob for knob in KNOBS))


def problem_of(path: str) -> str | None:
    """What keeps a path from being varied, in words; None: nothing does."""
    if path in _OURS:
        return f"cannot be varied: {_OURS[path]}"
    if path in _known():
        return None
    nearest = difflib.get_close_matches(path, _known(), n=1, cutoff=0.6)
    inside = [known for known in _known() if known.startswith(f"{path}.")]
    if inside:
        return f"has keys of its own; vary one of them, such as {inside[0]}"
    last = path.rpartition(".")[2]
    same = [known for known in _known() if known.rpartition(".")[2] == last]
    found = same or nearest
    return f"unknown path{f'; did you mean {found[0]}?' if found else ''}"


def in_recipe(path: str) -> str:
    """Where a recipe has what is varied."""
    return SERVICE + path.removeprefix(LOAD) if path.startswith(LOAD) else path


def searched_with(knob: Searched) -> tuple[str, ...]:
    """The paths of what a search for it says itself, or does without."""
    return tuple(SERVICE + one for one in (knob, *_WITHOUT[knob]))


def load_at(knob: Searched, load: float) -> dict[str, Setting]:
    """What a load of a search is in a recipe's service."""
    return {knob: load if knob == "rate" else int(load)}


def with_load(recipe: JsonObject, search: Search) -> JsonObject:
    """A recipe (parsed JSON) with the largest load of a search."""
    settings = {**dict.fromkeys(_WITHOUT[search.knob]), **load_at(search.knob, search.between[1])}
    return with_settings(recipe, {LOAD + name: value for name, value in settings.items()})


def is_knob(path: str) -> bool:
    """Whether it is the load's alone, and restarts nothing."""
    return in_recipe(path).removeprefix(SERVICE) in KNOBS


def with_settings(recipe: JsonObject, settings: Mapping[str, Setting]) -> JsonObject:
    """A recipe (parsed JSON) with settings at their paths. What should be an object and is none
    stays as it is: the recipe's reader says so."""
    changed = copy.deepcopy(dict(recipe))
    for path, value in settings.items():
        *sections, key = in_recipe(path).split(".")
        part: dict[str, object] = changed
        for section in sections:
            inner = part.setdefault(section, {})
            if not isinstance(inner, dict):
                break
            part = inner
        else:
            part[key] = value
    return changed
