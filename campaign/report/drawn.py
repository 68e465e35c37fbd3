"""Which plots a campaign's report has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from campaign.cells import Setting, levels_of
from campaign.report import plots
from campaign.report.figures import BY_KEY
from campaign.report.plots import Heat, Range, Row, Spot
from campaign.report.results import CellResult, Results
from campaign.report.tables import factors, told_apart
from campaign.statistics import Difference
from loadgen.measure.run_figures import MAIN_FIGURES, RunFigure
from loadgen.outputs.drawing import Plot

ALL, ONE, FIRST = MAIN_FIGURES[0], MAIN_FIGURES[1], BY_KEY["latency_seconds.ttft.p99"]
MEAN_FIRST = BY_KEY["latency_seconds.ttft.mean"]
#: More than so many heat maps say less.
MOST_HEAT_MAPS = 6
#: How much wider than its lower end an interval of a ratio may be.
_MOST_DRAWN = 100.0


def _range(cell: CellResult, figure: RunFigure) -> Range | None:
    found = cell.figures.get(figure.key)
    if found is None:
        return None
    return Range(found.value, found.low, found.high).times(figure.times)


def trade_offs(cells: Sequence[CellResult]) -> list[Plot]:
    """Draw tokens per second in all against those of one user, and against the time to the first
    token: its p99, or its mean if runs are too short for a p99."""
    has_p99 = any(FIRST.key in cell.figures for cell in cells)
    made = []
    for figure in (ONE, FIRST if has_p99 else MEAN_FIRST):
        spots = [
            Spot(str(cell.number), x, y)
            for cell in cells
            if (x := _range(cell, figure)) and (y := _range(cell, ALL))
        ]
        if len(spots) > 1:
            title = f"Throughput and {figure.name.partition(',')[0]}"
            labels = (figure.label, ALL.label)
            made.append(
                plots.pareto(f"pareto-{figure.key}", title, spots, labels, figure.better == "lower")
            )
    return made


# --- factors ---


def heat_maps(results: Results) -> list[Plot]:
    """Draw the figure that decides, and TTFT, over each pair of factors."""
    cells = results.material.cells
    names = factors(cells)
    levels = levels_of(cells)
    pairs = list(combinations([path for path in names if len(levels[path]) > 1], 2))
    made: list[Plot] = []
    for one, other in pairs:
        if len(made) >= MOST_HEAT_MAPS:
            break
        # Columns are fewer than rows: names of levels stand side by side below them.
        row, column = sorted((one, other), key=lambda path: -len(levels[path]))
        found = _at_levels(results.cells, row, column)
        for figure in (results.figures[0], MEAN_FIRST):
            values = [
                [_mean(found.get((y, x), ()), figure) for x in levels[column]] for y in levels[row]
            ]
            if any(value is not None for line in values for value in line):
                up, across = (
                    [told_apart(level, path, cells) for level in levels[path]]
                    for path in (row, column)
                )
                heat = Heat(up, across, values)
                name = f"heat-{len(made)}"
                axis = (names[column], names[row])
                made.append(plots.heat_map(name, figure.label, heat, axis))
    return made[:MOST_HEAT_MAPS]


def _at_levels(
    cells: Sequence[CellResult], row: str, column: str
) -> Mapping[tuple[Setting, Setting], Sequence[CellResult]]:
    """Cells by their levels of two factors."""
    found: dict[tuple[Setting, Setting], list[CellResult]] = {}
    for cell in cells:
        if row in cell.settings and column in cell.settings:
            found.setdefault((cell.settings[row], cell.settings[column]), []).append(cell)
    return found


def _mean(here: Sequence[CellResult], figure: RunFigure) -> float | None:
    """Over all these cells; None if one of them lacks the figure: the others differ in more than
    that."""
    found = [known.middle for cell in here if (known := _range(cell, figure)) is not None]
    return sum(found) / len(found) if found and len(found) == len(here) else None


def effects(results: Results) -> list[Plot]:
    """Draw, for each main figure, what each level does to it."""
    cells = results.material.cells
    names = factors(cells)
    found = [
        (f"{names[it.factor]} {told_apart(it.level, it.factor, cells)}", it.of)
        for it in results.analysis.effects
    ]
    return _intervals("effect", results.figures, found)


def differences(
    found: Sequence[Difference], numbers: dict[str, int], figures: Sequence[RunFigure]
) -> list[Plot]:
    """Draw, for each main figure, how cells differ from the one that all are compared with, unless
    they are too many."""
    named = [(f"cell {numbers[it.cell]}", it) for it in found]
    return _intervals("differs", figures, named)


def _intervals(
    kind: str, figures: Sequence[RunFigure], found: Sequence[tuple[str, Difference]]
) -> list[Plot]:
    made = []
    for figure in figures:
        own = [(label, it) for label, it in found if it.figure == figure.key]
        rows = [row for label, it in own if (row := _row(label, it))]
        if 0 < len(rows) <= plots.MOST_NAMED:
            made.append(Plot(plots.intervals(f"{kind}-{figure.key}", figure.name, rows), ""))
    return made


def _row(label: str, it: Difference) -> Row | None:
    """None if the figure has no ratio, which is rare. An interval that would squeeze all others
    is left out."""
    if it.ratio is None:
        return None
    if it.ratio.high > _MOST_DRAWN * it.ratio.low:
        return Row(label, Range(100 * (it.ratio.value - 1)), it.real)
    change = [100 * (end - 1) for end in (it.ratio.value, it.ratio.low, it.ratio.high)]
    return Row(label, Range(*change), it.real)


# --- blocks ---


def by_block(results: Results) -> list[Plot]:
    """Draw each main figure over the blocks: each cell by its own mean, and the blocks' effect."""
    made = []
    for course in results.stability:
        figure, means = BY_KEY[course.figure], results.cells
        lines = []
        for cell in means:
            estimate = cell.figures.get(figure.key)
            points = [
                (one.block, 100 * one.figures[figure.key] / estimate.value)
                for one in results.material.of(cell.cell)
                if estimate and one.state == "done" and figure.key in one.figures
            ]
            lines.append(points)
        blocks = [(block, 100 * effect) for block, effect in course.blocks]
        svg = plots.by_block(f"block-{figure.key}", figure.name, lines, blocks)
        made.append(Plot(svg, ""))
    return made
