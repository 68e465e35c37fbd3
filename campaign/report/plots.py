"""The plots of a campaign's report. Cells are named by their numbers in its table.

What tells things apart is never colour alone: marks differ in shape or are hollow, and numbers
stand beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from campaign.report.words import short
from loadgen.outputs.drawing import BLUE, GRID, INK, RED, Plot, draw

#: Of a plot, in inches, and its text: 12 pixels or more on a telephone, too.
WIDTH_IN, POINTS = 4.3, 10.5
_HEIGHT_IN, _ROW_IN = 3.1, 0.27
#: Of more cells not each has its number, or a row: nobody could read them, nor wait for them.
MOST_NAMED = 100


@dataclass(frozen=True)
class Range:
    """A value and its interval; None: not known."""

    middle: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Range:
        """Return it in another unit."""
        return Range(
            self.middle * factor,
            None if self.low is None else self.low * factor,
            None if self.high is None else self.high * factor,
        )


@dataclass(frozen=True)
class Spot:
    """A cell in a plane of two figures."""

    label: str
    x: Range
    y: Range


def _draw(name: str, title: str, fill: Callable[[Axes], None], height: float = _HEIGHT_IN) -> str:
    return draw(name, title, fill, (WIDTH_IN, height), POINTS)


# --- two figures ---


def front(spots: Sequence[Spot], x_lower: bool) -> list[Spot]:
    """Return the spots that no other one beats in both figures, by x; more of y is better, and of x
    less if `x_lower`."""

    def beats(one: Spot, other: Spot) -> bool:
        gain = other.x.middle - one.x.middle if x_lower else one.x.middle - other.x.middle
        up = one.y.middle - other.y.middle
        return gain >= 0 and up >= 0 and (gain > 0 or up > 0)

    kept = [spot for spot in spots if not any(beats(other, spot) for other in spots)]
    return sorted(kept, key=lambda spot: spot.x.middle)


def pareto(
    name: str, title: str, spots: Sequence[Spot], axis: tuple[str, str], x_lower: bool
) -> Plot:
    """Draw all cells, those of the front filled and joined. `axis`: labels of x and y."""
    best = front(spots, x_lower)

    def fill(axes: Axes) -> None:
        axes.plot([s.x.middle for s in best], [s.y.middle for s in best], "--", color=RED)
        sides, others = _sides(spots), [spot for spot in spots if spot not in best]
        for some, colour, mark, style in ((others, BLUE, "o", "none"), (best, RED, "s", "full")):
            _crosses(axes, some, colour)
            axes.plot([s.x.middle for s in some], [s.y.middle for s in some], mark, color=colour,
                      markersize=5, fillstyle=style)  # fmt: skip
        for spot in spots if len(spots) <= MOST_NAMED else best:
            axes.annotate(
                spot.label,
                (spot.x.middle, spot.y.middle),
                sides.get(spot.label, _OFFSETS[0]),
                textcoords="offset points",
                ha="center",
                va="center",
                color=INK,
            )
        axes.margins(0.12)
        axes.set_xlabel(axis[0])
        axes.set_ylabel(axis[1])

    words = "to the left and above" if x_lower else "to the right and above"
    return Plot(
        _draw(name, title, fill),
        f"Better is {words}. Filled squares: no other cell is better in both figures. Numbers: "
        "cells of the table"
        + (", of the front alone" if len(spots) > MOST_NAMED else "")
        + "; lines: intervals of 95 %.",
    )


#: Where a label may be, in points from its mark, and how much of the axes a label takes.
_OFFSETS = ((8, 7), (-8, 7), (8, -8), (-8, -8), (18, 0), (-18, 0), (0, 15), (0, -15))
_LABEL = (0.055, 0.075)


def _sides(spots: Sequence[Spot]) -> dict[str, tuple[float, float]]:
    """For each spot where its label does not lie on another one, as far as there is room."""
    across = _span([spot.x.middle for spot in spots])
    up = _span([spot.y.middle for spot in spots])
    taken = [(spot.x.middle / across, spot.y.middle / up) for spot in spots]
    sides: dict[str, tuple[float, float]] = {}
    for spot in spots if len(spots) <= MOST_NAMED else ():
        here = spot.x.middle / across, spot.y.middle / up
        free = [
            (offset, at)
            for offset in _OFFSETS
            if not _covers(at := (here[0] + offset[0] / 230, here[1] + offset[1] / 150), taken)
        ]
        offset, at = free[0] if free else (_OFFSETS[0], here)
        taken.append(at)
        sides[spot.label] = offset
    return sides


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values) or abs(values[0]) or 1.0


def _covers(at: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    return any(
        abs(at[0] - other[0]) < _LABEL[0] / 1.6 and abs(at[1] - other[1]) < _LABEL[1] / 1.6
        for other in others
    )


def _crosses(axes: Axes, spots: Sequence[Spot], colour: str) -> None:
    """The intervals of both figures."""
    across = [(s.y.middle, s.x.low, s.x.high) for s in spots if s.x.low is not None]
    up = [(s.x.middle, s.y.low, s.y.high) for s in spots if s.y.low is not None]
    for found, line in ((across, axes.hlines), (up, axes.vlines)):
        if found:
            at, low, high = zip(*found, strict=True)
            line(at, low, high, colors=colour, linewidth=0.8, alpha=0.6)


# --- two factors ---


@dataclass(frozen=True)
class Heat:
    """A figure over two factors; None: there is no such cell, or it has no figure."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]


def heat_map(name: str, title: str, heat: Heat, axis: tuple[str, str]) -> Plot:
    """Draw a field for each pair of levels, the more of its figure the stronger. `axis`: the
    factors of columns and rows."""
    known = [value for row in heat.values for value in row if value is not None]
    low, high = min(known), max(known)

    def fill(axes: Axes) -> None:
        axes.grid(False)
        for row, values in enumerate(heat.values):
            for column, value in enumerate(values):
                _field(axes, (column, row), value, _depth(value, low, high))
        axes.set_xlim(-0.5, len(heat.columns) - 0.5)
        axes.set_ylim(len(heat.rows) - 0.5, -0.5)
        axes.set_xticks(range(len(heat.columns)), heat.columns)
        axes.set_yticks(range(len(heat.rows)), heat.rows)
        axes.tick_params(length=0)
        axes.set_xlabel(axis[0])
        axes.set_ylabel(axis[1])

    height = max(1.6, 1.0 + 0.45 * len(heat.rows))
    return Plot(_draw(name, title, fill, height), "")


#: Fields that differ by less look the same: noise is no picture.
_LEAST_SPREAD = 0.2


def _depth(value: float | None, low: float, high: float) -> float:
    """How strong the colour is: the text on it stays readable."""
    if value is None:
        return 0.0
    spread = max(high - low, _LEAST_SPREAD * abs(high))
    return 0.08 + 0.47 * (1 - (high - value) / spread if spread else 0)


def _field(axes: Axes, at: tuple[int, int], value: float | None, depth: float) -> None:
    corner = (at[0] - 0.48, at[1] - 0.46)
    field = axes.add_patch(
        Rectangle(corner, 0.96, 0.92, facecolor=BLUE, alpha=depth, linewidth=0)
        if value is not None
        else Rectangle(corner, 0.96, 0.92, facecolor="none", edgecolor=GRID, hatch="///")
    )
    spelled = "-" if value is None else short(value)
    text = axes.text(at[0], at[1], spelled, ha="center", va="center", color=INK)
    for inner in (field, text):  # to measure each of a thousand takes seconds
        inner.set_in_layout(False)


# --- rows and blocks ---


@dataclass(frozen=True)
class Row:
    """A row of a plot: its name, value and interval; `marked`: it is another than the others."""

    label: str
    at: Range
    marked: bool = False


def intervals(name: str, title: str, rows: Sequence[Row]) -> str:
    """Draw a row for each change in percent with its interval, marked ones as squares, and a line
    at none; hollow: no interval."""

    def fill(axes: Axes) -> None:
        axes.axvline(0.0, color=INK, linewidth=0.8)
        for marked, colour, mark in ((False, BLUE, "o"), (True, RED, "s")):
            here = [(place, row.at) for place, row in enumerate(rows) if row.marked == marked]
            drawn = [(place, at.low, at.high) for place, at in here if at.low is not None]
            if drawn:
                places, low, high = zip(*drawn, strict=True)
                axes.hlines(places, low, high, colors=colour, linewidth=2)
            full = {place for place, _, _ in drawn}
            for style in ("full", "none"):
                some = [one for one in here if (one[0] in full) == (style == "full")]
                axes.plot([at.middle for _, at in some], [place for place, _ in some], mark,
                          color=colour, markersize=5, fillstyle=style)  # fmt: skip
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("% change")

    return _draw(name, title, fill, max(1.5, 0.9 + _ROW_IN * len(rows)))


def by_block(
    name: str,
    title: str,
    courses: Sequence[Sequence[tuple[int, float]]],
    blocks: Sequence[tuple[int, float]],
) -> str:
    """Draw the courses of cells over blocks, thin, and what all have in common, strong; percent of
    each one's mean."""

    def fill(axes: Axes) -> None:
        axes.axhline(100, color=INK, linewidth=0.8)
        gap = (math.nan, math.nan)  # one line of all: a thousand take seconds
        points = [point for course in courses for point in (*course, gap)]
        axes.plot([b for b, _ in points], [y for _, y in points], "-", color=BLUE,
                  linewidth=0.7, alpha=0.6, marker=".", markersize=3)  # fmt: skip
        axes.plot([b for b, _ in blocks], [y for _, y in blocks], "--s", color=RED, linewidth=2,
                  markersize=5)  # fmt: skip
        axes.set_xticks([block for block, _ in blocks])
        axes.set_xlabel("block")
        axes.set_ylabel("% of the mean")

    return _draw(name, title, fill)
