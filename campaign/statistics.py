"""Which cells differ, by how much, and whether that is more than chance.

The unit is the repetition: the requests of one run share its server and its queue. Cells are
compared within blocks (campaign/noise.py), so a repetition that is missing costs the others
nothing. Each comparison is a t test with the noise of the cells that it takes (F. E. Satterthwaite,
Biometrics Bulletin 2, 1946), its interval as wide as what all of them together need (C. E.
Bonferroni; O. J. Dunn, J. Am. Stat. Assoc. 56, 1961): in at most one campaign of twenty is any
difference called real that is none. So an interval leaves "no change" out exactly if the
difference is called real.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from campaign.cells import Cell, Observation, Setting
from campaign.factors import Factor, Pairs, factors
from campaign.noise import Noise, Stratum, Values, fit, values_of
from loadgen.compare.intervals import TAIL, t_outside, t_quantile
from loadgen.outputs.plot_data import Floats

#: In how many campaigns at most there is a false alarm.
LEVEL = 2 * TAIL
_DUST = 1e-24  # squares of weights that are nothing but rounding
#: Of more cells not all pairs are told: nobody reads half a million of them.
MOST_PAIRED = 100


@dataclass(frozen=True)
class Interval:
    """What was found, and from where to where it may be."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A figure of a cell, over its repetitions: their geometric mean if the figure is always above
    0, else their mean, with an interval of 95 % (Student's t); None with a single repetition. It
    has the drift of the machine in it, which comparisons have not."""

    cell: str
    figure: str
    value: float
    low: float | None
    high: float | None
    repetitions: int


@dataclass(frozen=True)
class Difference:
    """How `cell` differs from `against` in a figure: by a ratio if the figure is always above 0,
    else by a difference; never both. `p`: the chance of so much without any difference, corrected
    for all that the campaign compares. `blocks`: those that have both."""

    figure: str
    cell: str
    against: str
    ratio: Interval | None
    difference: Interval | None
    p: float
    blocks: int

    @property
    def real(self) -> bool:
        """Whether it is more than chance."""
        return self.p < LEVEL


@dataclass(frozen=True)
class Effect:
    """How a level of a factor differs from another one, on average over all cells that differ in
    nothing else. `cells`: how many pairs of such cells there are."""

    factor: str
    level: Setting
    reference: Setting
    cells: int
    of: Difference


@dataclass(frozen=True)
class Analysis:
    """All that a campaign compares. `family`: how many differences the correction is over: those of
    all figures, of cells and of levels, together."""

    differences: Sequence[Difference]
    effects: Sequence[Effect]
    family: int


# --- each cell ---


def estimates(observations: Sequence[Observation], figure: str) -> list[Estimate]:
    """Return a figure of each cell that has it."""
    values = values_of(observations, figure)
    return [_estimate(values, row) for row in range(len(values.cells))]


def _estimate(of: Values, row: int) -> Estimate:
    found = of.values[row][of.present[row]]
    mean, count = float(found.mean()), len(found)
    ends: tuple[float | None, float | None] = (None, None)
    if count > 1:
        half = t_quantile(count - 1) * float(found.std(ddof=1)) / math.sqrt(count)
        ends = (of.unscaled(mean - half), of.unscaled(mean + half))
    return Estimate(of.cells[row], of.figure, of.unscaled(mean), *ends, count)


# --- differences ---


@dataclass(frozen=True)
class Contrast:
    """A difference before it is judged, in the scale of its values."""

    of: Values
    names: tuple[str, str]
    value: float
    variance: float
    freedom: float
    blocks: int

    def judged(self, family: int) -> Difference:
        """Say what it comes to if `family` differences are looked at."""
        half = self.half_width(LEVEL / 2 / family)
        interval = Interval(*(self.of.unscaled(self.value + by) for by in (0, -half, half)))
        ratio, difference = (interval, None) if self.of.logarithms else (None, interval)
        p = min(1.0, self.p * family)
        return Difference(self.of.figure, *self.names, ratio, difference, p, self.blocks)

    @property
    def p(self) -> float:
        """The chance of so much, of this one alone."""
        if self.variance == 0:
            return float(self.value == 0)
        return t_outside(self.value / math.sqrt(self.variance), self.freedom)

    def half_width(self, tail: float) -> float:
        """Half of the interval that leaves so much out on each side."""
        return t_quantile(self.freedom, tail) * math.sqrt(self.variance)


def contrast(of: Values, noise: Noise, pairs: Pairs, names: tuple[str, str]) -> Contrast | None:
    """Return the mean difference of pairs, each within the blocks that have both; None if a pair
    has no two such blocks, or nothing tells their noise."""
    weights, blocks = np.zeros(of.values.shape), np.zeros(len(of.blocks), dtype=bool)
    for one, other in pairs:
        rows = [of.row_of[cell] for cell in (one, other) if cell in of.row_of]
        both = of.present[rows].all(axis=0)
        if len(rows) < 2 or both.sum() < 2:
            return None
        weights[rows[0], both] += 1 / both.sum() / len(pairs)
        weights[rows[1], both] -= 1 / both.sum() / len(pairs)
        blocks |= both
    of_groups, of_cells = _by_stratum(of, noise, weights)
    parts = [_part(noise.of_group, of_groups), _part(noise.of_cell, of_cells)]
    known = [part for part in parts if part is not None]
    if len(known) < 2:
        return None
    variance, freedom = _sum(known, sum(freedom for _, freedom in known))
    value = float(of.without_rounding(np.atleast_1d(np.nansum(weights * of.values)))[0])
    return Contrast(of, names, value, variance, freedom, int(blocks.sum()))


def _by_stratum(of: Values, noise: Noise, weights: Floats) -> tuple[Floats, Floats]:
    """The squares of the weights with which the noise of each group, and of each cell within its
    group, is in a contrast: a group's weight in a block is that of all its cells there."""
    of_groups, within = np.zeros(len(noise.groups)), weights.copy()
    asked = {of.groups[row] for row in np.flatnonzero(weights.any(axis=1)).tolist()}
    for number, group in ((n, one) for n, one in enumerate(noise.groups) if one in asked):
        rows = of.rows_of[group]
        here, counts = weights[rows].sum(axis=0), of.present[rows].sum(axis=0)
        of_groups[number] = (here**2).sum()
        within[rows] -= np.where(of.present[rows], here / np.maximum(1, counts), 0.0)
    return _without_dust(of_groups), _without_dust((within**2).sum(axis=1))


def _without_dust(squares: Floats) -> Floats:
    return np.where(squares < _DUST, 0.0, squares)


#: A variance, and the degrees of freedom that it is known with.
_Known = tuple[float, float]


def _part(of: Stratum, squares: Floats) -> _Known | None:
    """What a stratum has in the variance; None if it has, and is not known."""
    if not squares.any():
        return 0.0, 0.0
    if of.freedom < 1:
        return None
    used = squares > 0
    parts = zip((squares * of.variance)[used].tolist(), of.known_with[used].tolist(), strict=True)
    return _sum(list(parts), of.freedom)


def _sum(parts: Sequence[_Known], most: float) -> _Known:
    """The sum of variances, and the freedom that it is known with (Satterthwaite)."""
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / freedom for part, freedom in parts if part > 0)
    return variance, max(1.0, most if spread == 0 else min(most, variance**2 / spread))


def _told(of: Values, pairs: Pairs) -> Pairs:
    """Those of which both cells have the figure, in two blocks at least: one that failed takes
    nothing from what the others say."""
    known = [pair for pair in pairs if pair[0] in of.row_of and pair[1] in of.row_of]
    rows = [[of.row_of[cell] for cell in pair] for pair in known]
    both = [of.present[pair].all(axis=0).sum() > 1 for pair in rows]
    return [pair for pair, enough in zip(known, both, strict=True) if enough]


def analyse(
    cells: Sequence[Cell],
    observations: Sequence[Observation],
    figures: Sequence[str],
    baseline: str | None = None,
    reference: str | None = None,
) -> Analysis:
    """Compare cells in each of `figures`: with the baseline, or without one all with one another.
    The fewer figures are asked for, the smaller the differences that can be told. Of more than
    MOST_PAIRED cells without a baseline those pairs are told that have `reference`, which may have
    been chosen by what was measured: they are corrected for all pairs."""
    keys = [cell.key for cell in cells]
    partly = baseline is None and reference is not None and len(keys) > MOST_PAIRED
    pairs = _pairs(keys, reference if partly else baseline)
    levels = list(factors(cells, baseline))
    of_cells: list[Contrast] = []
    of_levels: list[tuple[Factor, Contrast]] = []
    untold = 0
    for figure in figures:
        values = values_of(observations, figure)
        if (noise := fit(values)) is None:
            continue
        found = [made for pair in pairs if (made := contrast(values, noise, [pair], pair))]
        untold += _comparable(values) - len(found) if partly else 0
        of_cells += found
        told = [replace(one, pairs=_told(values, one.pairs)) for one in levels]
        judged = [(one, contrast(values, noise, one.pairs, one.names)) for one in told if one.pairs]
        of_levels += [(one, made) for one, made in judged if made is not None]
    family = len(of_cells) + untold + len(of_levels)
    return Analysis(
        [one.judged(family) for one in of_cells],
        [
            Effect(one.factor, one.level, one.reference, len(one.pairs), made.judged(family))
            for one, made in of_levels
        ],
        family,
    )


def _pairs(keys: Sequence[str], against: str | None) -> Pairs:
    if against is not None:
        return [(key, against) for key in keys if key != against]
    return [(one, other) for other, one in combinations(keys, 2)]


def _comparable(of: Values) -> int:
    """How many pairs of cells have two blocks that have both."""
    present = of.present.astype(np.int64)
    return int((np.triu(present @ present.T, 1) > 1).sum())
