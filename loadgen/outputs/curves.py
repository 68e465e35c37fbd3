"""Plots of figures side by side: of replicas, of the points of a sweep, of two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from contracts.figures import BY_KEY
from contracts.summary import Distribution
from loadgen.outputs.drawing import (
    BLUE,
    COLOURS,
    DASHES,
    INK,
    RED,
    Plot,
    draw,
    plain,
)


@dataclass(frozen=True)
class Line:
    """A line of a plot over the points of a sweep; None: that point has no such figure."""

    label: str
    heights: Sequence[float | None]


def replicas(names: Sequence[str], spreads: Mapping[str, Sequence[Distribution]]) -> list[Plot]:
    """Draw per figure, by its key, a row for each replica: p50 as a dot, and a line to p95."""
    return [_replicas(names, key, spread) for key, spread in spreads.items()]


def _replicas(names: Sequence[str], key: str, spread: Sequence[Distribution]) -> Plot:
    label = BY_KEY[key].label

    def fill(axes: Axes) -> None:
        for row, figures in enumerate(spread):
            if figures.p50 is None:
                continue
            end = figures.p95 if figures.p95 is not None else figures.p50
            middle = figures.p50 * 1000
            axes.plot([middle, end * 1000], [row, row], color=BLUE, linewidth=2)
            axes.plot(middle, row, "o", color=BLUE, markersize=5)
            axes.plot(end * 1000, row, "|", color=RED, markersize=9, markeredgewidth=2)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, axes.dataLim.xmax * 1.05)
        axes.set_xlabel(f"{label} [ms]")

    svg = draw(f"replicas-{key}", f"{label} by replica", fill)
    return Plot(svg, "Dot: p50; line up to the bar: p95 (no line if the requests are too few).")


def against(name: str, title: str, axis: tuple[str, str], at: Sequence[float],
            lines: Sequence[Line], valid: Sequence[bool]) -> str:  # fmt: skip
    """Draw lines over the points of a sweep; points that are not valid are hollow. `axis`: labels
    of x and y."""
    wide = len(at) > 2 and max(at) >= 8 * min(at) > 0

    def fill(axes: Axes) -> None:
        for line, colour, dash in zip(lines, COLOURS, DASHES, strict=False):
            known = [(x, y, ok) for x, y, ok in zip(at, line.heights, valid, strict=True)
                     if y is not None]  # fmt: skip
            axes.plot([x for x, _, _ in known], [y for _, y, _ in known], dash, color=colour,
                      label=line.label)  # fmt: skip
            for x, y, ok in known:
                axes.plot(x, y, "o", color=colour, markersize=4, fillstyle="full" if ok else "none")
        if wide:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(at))
            plain(axes)
        axes.set_ylim(0, max(axes.dataLim.ymax, 1e-9) * 1.08)
        axes.set_xlabel(axis[0])
        axes.set_ylabel(axis[1])
        if len(lines) > 1:
            axes.legend(loc="best", fontsize=7.5)

    return draw(name, title, fill)


@dataclass(frozen=True)
class Interval:
    """A ratio and its interval; None: unknown."""

    label: str
    middle: float
    low: float | None
    high: float | None


def ratios(name: str, intervals: Sequence[Interval]) -> str:
    """Draw a row for each ratio with its interval, and a line at 1, for no change."""

    def fill(axes: Axes) -> None:
        axes.axvline(1, color=INK, linewidth=0.8)
        for row, it in enumerate(intervals):
            if it.low is not None and it.high is not None:
                differs = not it.low <= 1 <= it.high
                colour = RED if differs else BLUE
                axes.plot([it.low, it.high], [row, row], color=colour, linewidth=2)
                axes.plot(it.middle, row, "s" if differs else "o", color=colour, markersize=4)
            else:
                axes.plot(it.middle, row, "o", color=BLUE, markersize=4, fillstyle="none")
        axes.set_yticks(range(len(intervals)), [it.label for it in intervals])
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        axes.set_xlabel("B / A")

    return draw(name, "Ratios", fill)
