"""The tables of a campaign's report that compare: cells, settings, and another campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from campaign.report.against import Moved
from campaign.report.figures import BY_KEY
from campaign.report.results import Results
from campaign.report.tables import factors, told_apart
from campaign.report.words import NOTHING, Cell, change_of, compared, turned, verdict
from campaign.statistics import MOST_PAIRED, Difference
from loadgen.measure.run_figures import RunFigure

Rows = Sequence[tuple[str, Sequence[Cell]]]
Figures = Sequence[RunFigure]


@dataclass(frozen=True)
class Grid:
    """A table whose rows have a name and cells that may be marked."""

    title: str
    head: Sequence[str]
    rows: Rows
    note: str = ""


@dataclass(frozen=True)
class OfReference:
    """How cells differ from one of them: as a table, and as it was found."""

    grid: Grid
    found: Sequence[Difference]


def method(results: Results) -> str:
    """Return how differences are judged."""
    count = results.analysis.family
    few = results.baseline is not None or len(results.cells) <= MOST_PAIRED
    told = "" if few else f" Of more than {MOST_PAIRED} cells those with one cell are shown."
    return (
        f"Cells are compared within blocks, figure by figure. The intervals are of 95 % for all "
        f"{count} comparisons of this campaign together (Bonferroni), so that one that leaves out "
        "0 is more than chance: in at most one campaign of twenty is any difference marked that "
        f"is none. What is not marked may be the same.{told}"
    )


def of_reference(results: Results) -> OfReference | None:
    """Return how all cells differ from the baseline, or without one from the best, or else from the
    first that has figures; None if nothing can be compared."""
    reference = _reference(results)
    if reference is None:
        return None
    numbers = {cell.cell: cell.number for cell in results.cells}
    found = [
        it if it.against == reference else turned(it)
        for it in results.analysis.differences
        if reference in (it.cell, it.against)
    ]
    by_cell = _by(found)
    rows = [
        (f"{numbers[key]}: {key}", _line(by_cell.get(key, {}), results.figures))
        for key in numbers
        if key in by_cell
    ]
    what = "the baseline" if results.baseline else "the best"
    title = f"Against cell {numbers[reference]}, {what} ({reference})"
    return (
        OfReference(Grid(title, ("cell", *_names(results.figures)), rows), found) if rows else None
    )


def _reference(results: Results) -> str | None:
    differences = results.analysis.differences
    if not differences:
        return None
    best = results.best.cell.cell if results.best.cell else differences[0].against
    return results.baseline or best


def _by(found: Sequence[Difference]) -> dict[str, dict[str, Difference]]:
    by_cell: dict[str, dict[str, Difference]] = {}
    for it in found:
        by_cell.setdefault(it.cell, {})[it.figure] = it
    return by_cell


def _line(found: Mapping[str, Difference], figures: Figures) -> list[Cell]:
    return [compared(found.get(figure.key)) for figure in figures]


def _names(figures: Figures) -> list[str]:
    return [figure.name for figure in figures]


def pairs(results: Results) -> Grid | None:
    """Return all pairs of cells of which any difference is real; None if there is a baseline, or
    there are too many: then these were not compared."""
    if results.baseline or len(results.cells) > MOST_PAIRED:
        return None
    numbers = {cell.cell: cell.number for cell in results.cells}
    by_pair: dict[tuple[str, str], dict[str, Difference]] = {}
    for it in results.analysis.differences:
        by_pair.setdefault((it.cell, it.against), {})[it.figure] = it
    rows = [
        (f"{numbers[one]} against {numbers[other]}", _line(found, results.figures))
        for (one, other), found in by_pair.items()
        if any(it.real for it in found.values())
    ]
    return Grid("", ("cells", *_names(results.figures)), rows) if rows else None


def effects(results: Results) -> Grid | None:
    """Return what each level of each factor does, on average over all else."""
    cells = results.material.cells
    names = factors(cells)
    lines: dict[str, dict[str, Difference]] = {}
    for it in results.analysis.effects:
        level, reference = (told_apart(one, it.factor, cells) for one in (it.level, it.reference))
        label = f"{names[it.factor]}: {level} instead of {reference}"
        lines.setdefault(label, {})[it.of.figure] = it.of
    rows = [(label, _line(found, results.figures)) for label, found in lines.items()]
    note = (
        "Mean over the pairs of cells that differ in this alone; corrected together with those "
        "above."
    )
    return Grid("", ("setting", *_names(results.figures)), rows, note) if rows else None


# --- another campaign ---


@dataclass(frozen=True)
class AgainstOther:
    """What moved since another campaign, for the page."""

    name: str
    in_short: str
    conditions: Sequence[str]
    table: Grid


def against(results: Results) -> AgainstOther | None:
    """Return what moved since another campaign; None if there is none."""
    found = results.against
    if found is None:
        return None
    by_cell: dict[str, dict[str, Moved]] = {}
    for one in found.moved:
        by_cell.setdefault(one.cell, {})[one.figure] = one
    rows = [
        (cell, [_moved(moved.get(figure.key)) for figure in results.figures])
        for cell, moved in by_cell.items()
    ]
    note = (
        f"{_few(found.only_then, 'only in ' + found.name)}"
        f"{_few(found.only_now, 'only in this campaign')}"
        "Change of the geometric means of repetitions (Welch's t on logarithms); the intervals are "
        "of 95 % for all comparisons of this table together. What differs between two days is in "
        "the difference, too."
    )
    grid = Grid(f"Changes since {found.name}", ("cell", *_names(results.figures)), rows, note)
    return AgainstOther(found.name, in_words(found.moved), found.conditions, grid)


def _few(cells: Sequence[str], where: str) -> str:
    return f"Cells {where}: {', '.join(cells)}. " if cells else ""


def in_words(moved: Sequence[Moved]) -> str:
    """Return what is better and what is worse, as counts."""
    real = [one for one in moved if one.real]
    if not real:
        return f"None of {len(moved)} figures is shown to be other than it was."
    better = sum(one.worse_by < 0 for one in real)
    return (
        f"Of {len(moved)} figures {better} are better and {len(real) - better} worse than they "
        "were; of the others no difference is shown."
    )


def _moved(one: Moved | None) -> Cell:
    if one is None:
        return NOTHING
    below = ""
    if one.low is not None and one.high is not None:
        below = f"{change_of(one.low)} to {change_of(one.high)}"
    return Cell(change_of(one.ratio), below, verdict(one.figure, one.ratio - 1) if one.real else "")


def moved_lines(moved: Sequence[Moved]) -> list[str]:
    """Return a sentence for each figure that is other than it was."""
    return [
        f"{one.cell}: {BY_KEY[one.figure].name} {_moved(one).text} ({_moved(one).below}), "
        f"{_moved(one).mark}"
        for one in moved
    ]
