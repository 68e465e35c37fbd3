"""report.html of a campaign, as one file that needs nothing else: the page, part by part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from campaign.report import drawn, grids
from campaign.report.figures import BY_KEY, SHOWN
from campaign.report.results import CellResult, Repetition, Results
from campaign.report.tables import factors, told_apart
from campaign.report.words import SIGNS, Cell, between, estimated, short, with_names
from contracts.figures import BY_KEY as LATENCIES
from loadgen.measure.definitions import DEFINITIONS
from loadgen.outputs import html, tables
from loadgen.outputs.formatting import NA, number, text, when

#: From the campaign's folder, output/campaigns/NAME, to those of runs.
RUNS = "../../benchmarks"
_TEMPLATES = html.templates(Path(__file__).parent / "templates")


def page(results: Results) -> str:
    """Return the whole page."""
    material, shown = results.material, _shown(results)
    compared = grids.of_reference(results)
    return _TEMPLATES.get_template("campaign.html.j2").render(
        name=material.name,
        at=when(results.at),
        progress=_progress(results.cells),
        in_short=in_short(results),
        notices=list(_notices(results)),
        head=_head(results, shown),
        rows=[_row(cell, results, shown) for cell in results.cells],
        cells_note=_CELLS,
        broken=_broken(results.cells),
        trade_offs=drawn.trade_offs(results.cells),
        method=grids.method(results),
        differences=compared and compared.grid,
        difference_plots=compared
        and drawn.differences(compared.found, _numbers(results), results.figures),
        pairs=grids.pairs(results),
        effects=grids.effects(results),
        effect_plots=drawn.effects(results),
        heat_maps=drawn.heat_maps(results),
        blocks=drawn.by_block(results),
        stable=" ".join(_drifts(results)) or "No drift of the machine is shown.",
        against=grids.against(results),
        facts=_facts(results),
        given=json.dumps(material.as_given, indent=2, ensure_ascii=False),
        definitions={key: DEFINITIONS[key] for key in (*LATENCIES, *_DEFINED)},
        signs=SIGNS,
    )


_CELLS = (
    "Below each figure: its interval of 95 % over repetitions (Student's t), which has the drift "
    "of the machine in it; geometric means. Runs, by their blocks, lead to their own reports; "
    "\N{BALLOT X}: its figures do not count."
)
_DEFINED = ("percentiles", "throughput", "per_request.output_tokens_per_second")


def _numbers(results: Results) -> dict[str, int]:
    return {cell.cell: cell.number for cell in results.cells}


def _progress(cells: Sequence[CellResult]) -> str:
    done, planned = sum(c.repetitions for c in cells), sum(c.planned for c in cells)
    return f"{len(cells)} cells, {done} of {planned} repetitions count"


# --- in words ---


def in_short(results: Results) -> str:
    """Return which cell is best, in a sentence or two."""
    best, numbers = results.best, _numbers(results)
    figure, kept = BY_KEY[best.figure], _kept(results)
    if best.cell is None:
        return f"No cell {kept}." if results.limits else f"No cell has {figure.name} yet."
    cell = best.cell
    value, ends = cell.value * figure.times, ""
    if cell.low is not None and cell.high is not None:
        ends = f" ({between(cell.low * figure.times, cell.high * figure.times, value)})"
    among = f", among the cells whose repetitions {kept}" if results.limits else ""
    said = (
        f"Cell {numbers[cell.cell]} ({cell.cell}) is best{among}: {figure.label} "
        f"{short(value)}{ends}."
    )
    if best.level_with:
        others = ", ".join(str(numbers[one]) for one in best.level_with)
        word = "cells" if len(best.level_with) > 1 else "cell"
        said += f" It cannot be told apart from {word} {others}."
    if best.unsure:
        said += " That it keeps the SLO is not sure: the interval reaches beyond."
    return said


def _kept(results: Results) -> str:
    """What is asked of a cell, in words."""
    material = results.material
    if any(limit.kind == "least" for limit in results.limits):
        return f"keep {material.asked.slo} in {material.asked.goodput * 100:g} % of requests"
    return f"keep {material.asked.slo} at p99"


def _notices(results: Results) -> Iterator[str]:
    """What speaks against reading on as if nothing had happened."""
    for state, words in (
        ("failed", "failed"),
        ("invalid", "only have runs that are not valid"),
        ("partly", "lack some of their repetitions"),
        ("open", "were not measured so far"),
    ):
        found = [str(cell.number) for cell in results.cells if cell.state == state]
        if found:
            yield f"Cells that {words}: {', '.join(found)}."
    yield from _drifts(results)


def _drifts(results: Results) -> list[str]:
    return [with_names(one.warning) for one in results.stability if one.warning]


# --- cells ---


@dataclass(frozen=True)
class _Link:
    text: str
    href: str


@dataclass(frozen=True)
class _Row:
    """A cell as the table has it; `bad`: not all of it counts."""

    number: int
    settings: Sequence[str]
    state: str
    bad: bool
    figures: Sequence[Cell]
    costs: Sequence[str]
    links: Sequence[_Link]


def _shown(results: Results) -> list[str]:
    """The figures that any cell has."""
    has = {key for cell in results.cells for key in cell.figures}
    return [figure.key for figure in SHOWN if figure.key in has]


def _head(results: Results, shown: Sequence[str]) -> list[str]:
    names = factors(results.material.cells).values()
    costs = [name for name, of in _COSTS.items() if any(map(of, results.cells))]
    return ["", *names, "state", "runs", *(BY_KEY[key].label for key in shown), *costs]


#: What a cell has cost, in the unit that is shown; a column is left out if nobody knows it.
_COSTS: Mapping[str, Callable[[CellResult], float | None]] = {
    "GPU-hours": lambda cell: cell.gpu_hours,
    "energy [kJ]": lambda cell: None if cell.joules is None else cell.joules / 1000,
}


def _row(cell: CellResult, results: Results, shown: Sequence[str]) -> _Row:
    cells = results.material.cells
    paths = factors(cells)
    some = f"{cell.repetitions} of {cell.planned}"
    return _Row(
        number=cell.number,
        settings=[
            told_apart(cell.settings[path], path, cells) if path in cell.settings else ""
            for path in paths
        ],
        state=some if cell.state == "partly" else cell.state,
        bad=cell.state != "done",
        figures=[estimated(BY_KEY[key], cell.figures.get(key)) for key in shown],
        costs=[
            NA if (cost := of(cell)) is None else short(cost)
            for of in _COSTS.values()
            if any(map(of, results.cells))
        ],
        links=[_link(run) for run in cell.runs],
    )


def _link(run: Repetition) -> _Link:
    words = str(run.block) if run.state == "done" else f"{run.block}\N{BALLOT X}"
    return _Link(words, f"{RUNS}/{quote(run.run)}/report.html" if run.run else "")


def _broken(cells: Sequence[CellResult]) -> tables.Table | None:
    """The repetitions that do not count, with their sentences."""
    blocks: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        for run in [run for run in cell.runs if run.state != "done"]:
            why = run.problem or "no reason is known"
            key = (f"{cell.number}: {cell.cell}", run.state, why)
            blocks.setdefault(key, []).append(str(run.block))
    rows = [(cell, state, ", ".join(which), why) for (cell, state, why), which in blocks.items()]
    head = ("cell", "state", "blocks", "why")
    return tables.Table("", head, rows, words=True) if rows else None


# --- where it comes from ---

Facts = Sequence[tuple[str, Sequence[tuple[str, str]]]]


def _facts(results: Results) -> Facts:
    material, cost = results.material, results.cost
    asked = material.asked
    varied = [
        (path, ", ".join(told_apart(value, path, material.cells) for value in values))
        for path, values in asked.vary.items()
    ]
    recipe = asked.recipe if isinstance(asked.recipe, str) else "as given below"
    plan = [
        ("recipe", recipe),
        ("repetitions", f"{material.repetitions}, each in a block of all cells in random order"),
        ("seed", str(asked.seed)),
        ("baseline", text(results.baseline)),
        ("SLO", text(asked.slo)),
    ]
    spent = [
        ("GPU-hours of all deployments", number(cost.gpu_hours, 3)),
        ("GPU-hours of the runs", number(cost.measured_gpu_hours, 3)),
        ("energy of the runs' GPUs", NA if cost.joules is None else f"{short(cost.joules)} J"),
    ]
    held = list(material.conditions.items())
    groups = [("Varied", varied), ("Plan", plan), ("Held", held), ("Cost", spent)]
    return [(title, pairs) for title, pairs in groups if pairs]
