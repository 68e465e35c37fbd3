"""Cells that one deployment can serve: those that differ in what each run asks of its load."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from campaign.cells import Cell
from hpc.campaigns.settings import KNOBS, is_knob
from hpc.recipe.schema import MAX_DEFAULT_PARALLEL, Recipe
from ledger.conditions import fingerprint

#: Of a deployment's name, which begins with its campaign's; the group's id follows.
_MOST_NAME, _ID = 40, 8


def name_of(campaign: str, group: str) -> str:
    """The name of a group's deployments."""
    return f"{_begin_of(campaign)}-{group}"


def _begin_of(campaign: str) -> str:
    """The campaign's name; of a long one its begin, and what tells it from others that begin so."""
    if len(campaign) <= _MOST_NAME:
        return campaign
    return f"{campaign[: _MOST_NAME - _ID - 1]}-{fingerprint(campaign)[:_ID]}"


def is_name_of(campaign: str, name: str) -> bool:
    """Whether a deployment of that name is one of a campaign's."""
    begin, _, group = name.rpartition("-")
    return begin == _begin_of(campaign) and bool(re.fullmatch(f"[0-9a-f]{{{_ID}}}", group))


@dataclass(frozen=True)
class Group:
    """Cells, by their keys, and the recipe of what serves them; `words`: what tells it from the
    other groups."""

    id: str
    cells: tuple[str, ...]
    recipe: Recipe
    words: str


def grouped(name: str, cells: Sequence[Cell], recipes: Mapping[str, Recipe]) -> list[Group]:
    """The groups of a campaign's cells, in the order of their first ones."""
    members: dict[str, list[Cell]] = {}
    for cell in cells:
        members.setdefault(_what_serves(recipes[cell.key]), []).append(cell)
    return [_group(name, id_, found, recipes) for id_, found in members.items()]


def _what_serves(recipe: Recipe) -> str:
    """The fingerprint of all of a recipe that its deployment has, and no single run."""
    job = recipe.job.model_dump(mode="json", by_alias=True, exclude={"name": True})
    job["service"] = {key: value for key, value in job["service"].items() if key not in KNOBS}
    return fingerprint(job)[:_ID]


def _group(name: str, id_: str, cells: Sequence[Cell], recipes: Mapping[str, Recipe]) -> Group:
    largest = max(
        (recipes[cell.key] for cell in cells), key=lambda one: one.job.service.concurrency
    )
    service = largest.job.service
    if service.num_parallel is None and service.server is None:
        # Else it would be that of one of the cells, and the others were measured with it.
        slots = min(service.concurrency, MAX_DEFAULT_PARALLEL)
        service = service.model_copy(update={"num_parallel": slots})
    job = largest.job.model_copy(update={"name": name_of(name, id_), "service": service})
    first = cells[0].settings
    words = Cell({path: first[path] for path in first if not is_knob(path)}).key or "all cells"
    keys = tuple(cell.key for cell in cells)
    return Group(id_, keys, largest.model_copy(update={"job": job}), words)
