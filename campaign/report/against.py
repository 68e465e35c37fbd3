"""What became better or worse since another campaign, cell by cell.

Cells with the same settings are compared by their repetitions, as logarithms if a figure is always
above 0 (Welch's t: B. L. Welch, Biometrika 34, 1947). Blocks are not paired: those of two campaigns
have nothing in common, and what differs between two days is in the difference, too. As within a
campaign, the correction is over all cells and main figures together (C. E. Bonferroni; O. J. Dunn,
J. Am. Stat. Assoc. 56, 1961): an interval leaves "no change" out exactly if the difference is
called real.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from campaign.cells import Cell, Observation, Setting
from campaign.report.figures import BY_KEY, main_figures
from campaign.report.reading import Material
from campaign.statistics import LEVEL
from contracts.errors import UsageError
from ledger.conditions import differences
from loadgen.compare import intervals
from loadgen.measure.run_figures import RunFigure
from loadgen.outputs.plot_data import Floats

#: Of logarithms: beyond it nothing is known, and beyond 709 there is no number.
_MOST = 500.0
#: Of means of logarithms that are the same but for the computer's rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Moved:
    """A main figure of a cell, then and now, in the figure's own unit: the geometric means of its
    repetitions. `ratio`: now / then; None for its interval and `p`, the chance of so much without
    any difference, corrected for all that is compared: there are too few repetitions."""

    cell: str
    figure: str
    then: float
    now: float
    ratio: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def real(self) -> bool:
        """Whether it is more than chance."""
        return self.p is not None and self.p < LEVEL

    @property
    def worse_by(self) -> float:
        """Return by which part of what it was it is worse; negative: better."""
        change = self.ratio - 1
        return -change if BY_KEY[self.figure].better == "higher" else change


@dataclass(frozen=True)
class Against:
    """All that moved since the campaign `name`. `conditions`: sentences on what else is not what it
    was; `only_then`, `only_now`: cells that the other one lacks."""

    name: str
    moved: Sequence[Moved]
    conditions: Sequence[str]
    only_then: Sequence[str]
    only_now: Sequence[str]

    @property
    def real(self) -> list[Moved]:
        """Those that are more than chance."""
        return [one for one in self.moved if one.real]


def compare(now: Material, then: Material) -> Against:
    """Return what moved from one campaign to another. Raises UsageError if no cell is in both."""
    theirs = {_settings(cell): cell for cell in then.cells}
    shared = [(cell, theirs[key]) for cell in now.cells if (key := _settings(cell)) in theirs]
    if not shared:
        raise UsageError(
            f"the campaigns {now.name} and {then.name} have no cell with the same settings; name "
            "one that varied the same."
        )
    met = {_settings(cell) for cell, _ in shared}
    pairs = [
        pair for cell, before in shared for pair in _pairs(now.of(cell.key), then.of(before.key))
    ]
    family = sum(pair.testable for pair in pairs)
    return Against(
        then.name,
        [pair.judged(family) for pair in pairs],
        differences(then.conditions, now.conditions),
        [cell.key for cell in then.cells if _settings(cell) not in met],
        [cell.key for cell in now.cells if _settings(cell) not in met],
    )


def _settings(cell: Cell) -> frozenset[tuple[str, type, Setting]]:
    """What tells a cell: 1 and 1.0 are one value, true is another."""
    return frozenset(
        (path, bool if isinstance(value, bool) else object, value)
        for path, value in cell.settings.items()
    )


@dataclass(frozen=True)
class _Pair:
    """A figure of a cell on both sides: the logarithms of its repetitions."""

    cell: str
    figure: RunFigure
    then: Floats
    now: Floats

    @property
    def testable(self) -> bool:
        """Whether both sides show how much repetitions differ."""
        return len(self.then) > 1 and len(self.now) > 1

    def judged(self, family: int) -> Moved:
        """Say what it comes to if `family` pairs are looked at."""
        before, after = float(self.then.mean()), float(self.now.mean())
        moved = after - before if abs(after - before) > _ROUNDING else 0.0
        low = high = p = None
        if self.testable:
            half, chance = self._tested(moved, family)
            low, high = math.exp(moved - half), math.exp(min(_MOST, moved + half))
            p = min(1.0, chance * family)
        key, ratio = self.figure.key, math.exp(moved)
        return Moved(self.cell, key, math.exp(before), math.exp(after), ratio, low, high, p)

    def _tested(self, moved: float, family: int) -> tuple[float, float]:
        """Half of the interval, and the chance of this pair alone."""
        parts = [float(side.var(ddof=1)) / len(side) for side in (self.then, self.now)]
        variance = sum(parts)
        if variance == 0:
            return 0.0, float(moved == 0)
        sides = zip(parts, (self.then, self.now), strict=True)
        freedom = variance**2 / sum(part**2 / (len(side) - 1) for part, side in sides)
        spread = math.sqrt(variance)
        t = intervals.t_quantile(freedom, LEVEL / 2 / family)
        return t * spread, intervals.t_outside(moved / spread, freedom)


def _pairs(now: Sequence[Observation], then: Sequence[Observation]) -> Iterator[_Pair]:
    """Those of the main figures that both sides have."""
    for figure in main_figures(now):
        sides = [_logarithms(side, figure.key) for side in (then, now)]
        if all(map(len, sides)):
            yield _Pair(now[0].cell, figure, *sides)


def _logarithms(observations: Sequence[Observation], key: str) -> Floats:
    """Of the repetitions that count; none if the figure is 0 in one of them: no ratio has a
    meaning then."""
    found = [one.figures[key] for one in observations if one.state == "done" and key in one.figures]
    return np.log(found) if all(value > 0 for value in found) else np.array([])


# --- regressions ---


def regressions(against: Against, most: float) -> list[Moved]:
    """Return what is worse by more than `most` (a part of what it was), and really so."""
    return [one for one in against.real if one.worse_by > most]
