"""Cells that one deployment can serve: those that differ in what each run asks of its load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from campaign.cells import Cell
from hpc.campaigns.settings import KNOBS
from hpc.recipe.schema import MAX_DEFAULT_PARALLEL, Recipe
from ledger.conditions import fingerprint

#: Of a deployment's name, which its campaign's begins; the group's id and a blank follow.
_MOST_NAME = 40


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
    return fingerprint(job)[:8]


def _group(name: str, id_: str, cells: Sequence[Cell], recipes: Mapping[str, Recipe]) -> Group:
    largest = max((recipes[cell.key] for cell in cells), key=lambda one: one.job.service.concurrency)
    service = largest.job.service
    if service.num_parallel is None and service.server is None:
        # Else it would be that of one of the cells, and the others were measured with it.
        slots = min(service.concurrency, MAX_DEFAULT_PARALLEL)
        service = service.model_copy(update={"num_parallel": slots})
    job = largest.job.model_copy(update={"name": f"{name[:_MOST_NAME]}-{id_}", "service": service})
    first = cells[0].settings
    shared = {
        path: first[path]
        for path in first
        if all(cell.settings[path] == first[path] for cell in cells)
    }
    words = Cell(shared).key or "all cells"
    keys = tuple(cell.key for cell in cells)
    return Group(id_, keys, largest.model_copy(update={"job": job}), words)
