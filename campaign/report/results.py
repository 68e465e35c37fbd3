"""What a campaign has found, once: results.json has all of it, and report.html says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Literal

from campaign.best import Best, Limit, best
from campaign.cells import Cell, Observation, Setting, State
from campaign.report.against import Against
from campaign.report.figures import SHOWN, main_figures, searched_in
from campaign.report.reading import Material
from campaign.stability import Stability, stability
from campaign.statistics import Analysis, Difference, Estimate, analyse, estimates
from contracts.json_object import JsonObject
from loadgen.flags import limits_of
from loadgen.measure.run_figures import RunFigure

#: `open`: not measured so far; `partly`: some of its repetitions count, and some are invalid,
#: failed or open.
CellState = Literal["done", "partly", "invalid", "failed", "open"]
JOULES, GOODPUT = "energy.joules", "goodput.share"


@dataclass(frozen=True)
class Repetition:
    """A run of a cell: its block, place in the campaign, and folder in output/benchmarks."""

    block: int
    order: int | None
    state: State
    run: str | None
    problem: str | None


@dataclass(frozen=True)
class CellResult:
    """A cell. `number`: its place in the plan, by which report and plots name it; `repetitions`:
    how many count; `figures`: by their places in summary.json; `gpu_hours`, `joules`: of all its
    runs, None if not known."""

    number: int
    cell: str
    settings: Mapping[str, Setting]
    state: CellState
    repetitions: int
    planned: int
    runs: Sequence[Repetition]
    figures: Mapping[str, Estimate]
    gpu_hours: float | None
    joules: float | None


@dataclass(frozen=True)
class Cost:
    """Of the whole campaign; None: not known. `gpu_hours`: of all deployments, also while nothing
    was measured; `measured_gpu_hours`, `joules`: of the runs."""

    gpu_hours: float | None
    measured_gpu_hours: float | None
    joules: float | None


@dataclass(frozen=True)
class Results:
    """All of a campaign, as it was `at`. `figures`: those that are tested; `baseline`: the cell
    that the others are compared with."""

    material: Material
    at: str
    cells: Sequence[CellResult]
    figures: Sequence[RunFigure]
    baseline: str | None
    limits: Sequence[Limit]
    analysis: Analysis
    stability: Sequence[Stability]
    best: Best
    cost: Cost
    against: Against | None

    def as_json(self) -> JsonObject:
        """Return what results.json holds: docs/results.md says what its keys mean."""
        material, analysis = self.material, self.analysis
        return {
            "campaign": material.name,
            "at": self.at,
            "given": material.as_given,
            "conditions": dict(material.conditions),
            "cells": [asdict(cell) for cell in self.cells],
            "baseline": self.baseline,
            "comparisons": analysis.family,
            "differences": [_difference(one) for one in analysis.differences],
            "effects": [{**asdict(one), "of": _difference(one.of)} for one in analysis.effects],
            "stability": [asdict(one) for one in self.stability],
            "best": {**asdict(self.best), "limits": [asdict(limit) for limit in self.limits]},
            "cost": asdict(self.cost),
            "against": None if self.against is None else _against(self.against),
        }


def _difference(one: Difference) -> JsonObject:
    return {**asdict(one), "real": one.real}


def _against(against: Against) -> JsonObject:
    moved = [{**asdict(one), "real": one.real} for one in against.moved]
    return {**asdict(against), "moved": moved}


def results_of(material: Material, against: Against | None = None) -> Results:
    """Return what the observations of a campaign come to."""
    figures = main_figures(material.observations)
    main = [figure.key for figure in figures]
    baseline = _baseline(material)
    cells, limits = _cells(material), _limits(material)
    found = best(material.observations, main[0], "higher", limits)
    return Results(
        material=material,
        at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        cells=cells,
        figures=figures,
        baseline=baseline,
        analysis=analyse(
            material.cells, material.observations, main, baseline, _leading(cells, found)
        ),
        stability=stability(material.observations, main),
        limits=limits,
        best=found,
        cost=Cost(
            None if material.gpu_seconds is None else material.gpu_seconds / 3600,
            _sum([cell.gpu_hours for cell in cells]),
            _sum([cell.joules for cell in cells]),
        ),
        against=against,
    )


def _baseline(material: Material) -> str | None:
    """The cell that has all settings which the file names."""
    wanted = material.asked.baseline
    if wanted is None:
        return None
    found = (
        cell.key
        for cell in material.cells
        if all(cell.settings.get(path) == value for path, value in wanted.items())
    )
    return next(found, None)


def _leading(cells: Sequence[CellResult], found: Best) -> str | None:
    """The best cell; if none keeps the limits the one that would be it without them; None if no
    cell has the figure."""
    if found.cell is not None:
        return found.cell.cell
    having = [(one.figures[found.figure].value, one.cell) for one in cells
              if found.figure in one.figures]  # fmt: skip
    return max(having)[1] if having else None


def _limits(material: Material) -> list[Limit]:
    """What the SLO asks of a cell: that enough requests keep it, where runs have counted that; else
    that p99 of each of its figures does. What was searched keeps it."""
    if not material.asked.slo or searched_in(material.observations):
        return []
    if any(GOODPUT in one.figures for one in material.observations):
        return [Limit(GOODPUT, material.asked.goodput, "least")]
    limits = limits_of(material.asked.slo)
    return [Limit(f"latency_seconds.{name}.p99", most) for name, most in limits.items()]


def _cells(material: Material) -> list[CellResult]:
    found: dict[str, dict[str, Estimate]] = {cell.key: {} for cell in material.cells}
    for figure in SHOWN:
        for estimate in estimates(material.observations, figure.key):
            if estimate.cell in found:
                found[estimate.cell][figure.key] = estimate
    return [
        _cell(number, cell, material, found[cell.key])
        for number, cell in enumerate(material.cells, 1)
    ]


def _cell(
    number: int, cell: Cell, material: Material, figures: Mapping[str, Estimate]
) -> CellResult:
    runs, gpus = material.of(cell.key), material.gpus.get(cell.key)
    seconds = _sum([material.seconds.get(one.run or "") for one in runs])
    planned = material.repetitions
    return CellResult(
        number=number,
        cell=cell.key,
        settings=cell.settings,
        state=_state(runs, planned),
        repetitions=sum(one.state == "done" for one in runs),
        planned=planned,
        runs=[Repetition(o.block, o.order, o.state, o.run, o.problem) for o in runs],
        figures=figures,
        gpu_hours=None if gpus is None or seconds is None else gpus * seconds / 3600,
        joules=_sum([one.figures.get(JOULES) for one in runs]),
    )


def _state(runs: Sequence[Observation], planned: int) -> CellState:
    states = {one.state for one in runs}
    if "done" in states:
        return "done" if states == {"done"} and len(runs) >= planned else "partly"
    if not states:
        return "open"
    return "failed" if "failed" in states else "invalid"


def _sum(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
