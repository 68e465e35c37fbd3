"""All that a report is made of: a campaign's file, its cells, and what was measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from campaign import units
from campaign.cells import Cell, Observation, Setting
from contracts.errors import UsageError
from contracts.json_object import JsonObject
from contracts.validation import first_problem


class Search(BaseModel):
    """Of a campaign's search: which share of requests within the SLO counts as kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    goodput: float = 0.95


class Asked(BaseModel):
    """What a report says of a campaign's file. Files of later versions may have more in them."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    recipe: str | JsonObject = ""
    vary: dict[str, list[Setting]]
    seed: int = 1
    baseline: dict[str, Setting] | None = None
    slo: str | None = None
    search: Search | None = None

    @property
    def goodput(self) -> float:
        """Return which share of requests must be within the SLO."""
        return (self.search or Search()).goodput


@dataclass(frozen=True)
class Material:
    """A campaign as it is now. `repetitions`: of each cell, as planned; `conditions`: what held
    beside what was varied, and what deployments said of it; `gpus`: those of the
    deployment of each cell, by its key; `gpu_seconds`: of all deployments, also while nothing was
    measured; `seconds`: how long runs took, by their names; `as_given`: the file."""

    name: str
    folder: Path
    asked: Asked
    repetitions: int
    cells: Sequence[Cell]
    observations: Sequence[Observation]
    conditions: Mapping[str, str] = field(default_factory=dict)
    gpus: Mapping[str, int] = field(default_factory=dict)
    gpu_seconds: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    as_given: JsonObject = field(default_factory=dict)

    def of(self, cell: str) -> list[Observation]:
        """Return what was measured of a cell, by blocks."""
        return sorted(self._by_cell.get(cell, ()), key=lambda one: one.block)

    @cached_property
    def _by_cell(self) -> Mapping[str, Sequence[Observation]]:
        found: dict[str, list[Observation]] = {}
        for one in self.observations:
            found.setdefault(one.cell, []).append(one)
        return found


def read_campaign(folder: Path) -> Material:
    """Return the campaign of a folder. Raises UsageError if it holds none, FileError if its ledger
    is broken."""
    ledger = units.read(folder)
    planned = ledger.planned
    if planned is None:
        raise UsageError(
            f"{folder} holds no campaign (no {units.LEDGER} with a plan); name a folder of "
            "output/campaigns."
        )
    given = planned.campaign
    inner = given.get("campaign", given)
    try:
        asked = Asked.model_validate(inner)
    except ValidationError as error:
        raise UsageError(
            f"the plan in {folder / units.LEDGER} is none of a campaign ({first_problem(error)})."
        ) from error
    gpus = {one.group: one.gpus for one in ledger.deploying.values()}
    return Material(
        name=folder.resolve().name,
        folder=folder,
        asked=asked,
        repetitions=planned.repetitions,
        cells=ledger.cells,
        observations=units.observations(folder),
        conditions={**planned.conditions, **_said(ledger)},
        gpus={cell.key: gpus[cell.group] for cell in planned.cells if cell.group in gpus},
        gpu_seconds=ledger.gpu_seconds(time.time()) if ledger.deploying else None,
        seconds={
            one.run: one.seconds
            for one in ledger.last().values()
            if one.run is not None and one.seconds is not None
        },
        as_given=given,
    )


def _said(ledger: units.Ledger) -> dict[str, str]:
    """What the deployments that served last say of themselves; all of it, if they differ."""
    found: dict[str, dict[str, None]] = {}
    for deployed in ledger.serving.values():
        for name, value in deployed.conditions.items():
            found.setdefault(name, {})[value] = None
    return {name: "; ".join(sorted(values)) for name, values in found.items()}
