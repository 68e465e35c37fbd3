"""Intervals of 95 % for the change of a figure from A to B.

Several runs on each side: the run is the unit, since the requests of one run share its server, its
caches and its queue, and so are not independent. Their means are compared by Welch's t interval
(B. L. Welch, Biometrika 34, 1947: unequal spreads); the ratio of the means has Fieller's interval
with the same t, which holds 1 exactly if Welch's holds 0 (E. C. Fieller, J. R. Stat. Soc. B 16,
1954; for computer benchmarks: Kalibera and Jones, ISMM 2013).

One run on each side: blocks of consecutive requests are drawn anew (block bootstrap, H. R. Kuensch,
Ann. Statist. 17, 1989), which keeps the dependence of neighbours. Such an interval says how well
the run knows its own figure, and nothing of how runs differ.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loadgen.outputs.plot_data import Floats, Requests, end_of, values

TAIL = 0.025  # on each side
DRAWS = 2000  # the interval's ends then vary by some hundredths of its width
SEED = 1
FEWEST_BLOCKS = 10
_GRID = 2000  # ranks that percentiles are looked up among; 20 of them lie above p99


@dataclass(frozen=True)
class Change:
    """A figure on both sides, and the intervals of b - a and b / a; None: not known."""

    a: float
    b: float
    difference: tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None

    @property
    def shown(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.difference is not None and not self.difference[0] <= 0 <= self.difference[1]


# --- over runs ---


_ANGLES = np.linspace(0, math.pi / 2, 8001)


@functools.lru_cache(maxsize=32)
def _inside(freedom: float) -> Floats:
    """P(0 < T < sqrt(freedom) tan x) for each of _ANGLES: the integral of c cos^(freedom - 1)
    from 0 to x (substitute t = sqrt(freedom) tan x in Student's density)."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    density = scale * np.cos(_ANGLES) ** (freedom - 1)
    return np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2) * _ANGLES[1]])


def t_quantile(freedom: float, tail: float = TAIL) -> float:
    """Return the t that a Student variable of so many degrees of freedom (>= 1) exceeds with the
    probability `tail`."""
    angle = float(np.interp(0.5 - tail, _inside(freedom), _ANGLES))
    return math.sqrt(freedom) * math.tan(angle)


def t_outside(t: float, freedom: float) -> float:
    """Return the probability that a Student variable of so many degrees of freedom (>= 1) is
    further from 0 than `t`."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    return max(0.0, 1 - 2 * float(np.interp(angle, _ANGLES, _inside(freedom))))


def over_runs(a: Sequence[float], b: Sequence[float]) -> Change:
    """Return the change between the means of runs; at least two of them on each side."""
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    var_a, var_b = _variance_of_mean(a, mean_a), _variance_of_mean(b, mean_b)
    if var_a + var_b == 0:
        return Change(mean_a, mean_b, (mean_b - mean_a,) * 2, _exactly(mean_a, mean_b))
    freedom = (var_a + var_b) ** 2 / (var_a**2 / (len(a) - 1) + var_b**2 / (len(b) - 1))
    t = t_quantile(freedom)
    half = t * math.sqrt(var_a + var_b)
    difference = (mean_b - mean_a - half, mean_b - mean_a + half)
    return Change(
        mean_a, mean_b, difference, _fieller(mean_a, mean_b, t * t * var_a, t * t * var_b)
    )


def _variance_of_mean(values: Sequence[float], mean: float) -> float:
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)


def _exactly(a: float, b: float) -> tuple[float, float] | None:
    return None if a == 0 else (b / a, b / a)


def _fieller(a: float, b: float, spread_a: float, spread_b: float) -> tuple[float, float] | None:
    """All r with (b - r a)^2 <= spread_b + r^2 spread_a; None if they have no bounds."""
    square = a * a - spread_a
    if square <= 0:
        return None
    root = math.sqrt(max(0.0, (a * b) ** 2 - square * (b * b - spread_b)))
    return (a * b - root) / square, (a * b + root) / square


# --- within one run ---


def blocks(requests: Requests, at_once: int) -> list[Requests]:
    """Return requests in blocks of neighbours by their end; none if they are too few.

    As long as the cube root of their number, which balances what a block keeps against how many
    there are, rounded up to whole rounds of all that are in flight at once: these often end
    together, and half a round would make the rate jump.
    """
    ordered = [request for request in requests if request.get("in_window", True)]
    ordered.sort(key=lambda request: end_of(request) or request["intended"])
    length = max(1, at_once) * math.ceil(len(ordered) ** (1 / 3) / max(1, at_once))
    count = len(ordered) // length if ordered else 0
    if count < FEWEST_BLOCKS:
        return []
    borders = [*range(0, count * length, length), len(ordered)]
    return [ordered[low:high] for low, high in pairwise(borders)]


Statistic = Callable[[Floats], Floats]


def within_runs(
    a: float, b: float, of_a: Statistic, of_b: Statistic, counts: tuple[int, int]
) -> Change:
    """Return the change between two runs, `a` and `b` as their summaries have it. A statistic gives
    the figure for each row of weights, one for each block; `counts`: blocks of each run."""
    dice = np.random.default_rng(SEED)
    drawn_a, drawn_b = _drawn(of_a, counts[0], dice), _drawn(of_b, counts[1], dice)
    as_a, as_b = (of(np.ones((1, n)))[0] for of, n in zip((of_a, of_b), counts, strict=True))
    # A summary's own rule may count a little differently at the ends: the interval is moved there.
    low, high = np.quantile(drawn_b - drawn_a, [TAIL, 1 - TAIL]) - (as_b - as_a) + (b - a)
    ratio = None
    if a > 0 and b > 0 and min(drawn_a.min(), as_a, as_b) > 0:
        ends = np.quantile(drawn_b / drawn_a, [TAIL, 1 - TAIL]) / (as_b / as_a) * (b / a)
        ratio = (float(ends[0]), float(ends[1]))
    return Change(a, b, (float(low), float(high)), ratio)


def _drawn(statistic: Statistic, count: int, dice: np.random.Generator) -> Floats:
    """The figure of DRAWS runs made of blocks drawn with replacement; a draw without any value,
    if almost all requests failed, is left to the others."""
    weights = dice.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    drawn = statistic(weights.astype(np.float64))
    return np.where(np.isfinite(drawn), drawn, np.nanmedian(drawn))


def mean_of(values: Sequence[Floats]) -> Statistic:
    """Return the mean of all values; given block by block."""
    sums = np.array([each.sum() for each in values])
    return ratio_of(sums, np.array([float(len(each)) for each in values]))


def ratio_of(parts: Floats, wholes: Floats) -> Statistic:
    """Return the sum of the parts by the sum of the wholes, such as tokens by seconds."""

    def statistic(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (weights @ parts) / (weights @ wholes)
        return found

    return statistic


def percentile_of(values: Sequence[Floats], percent: float) -> Statistic:
    """Return a percentile of all values; of many, a grid of ranks stands for all."""
    grid = np.unique(np.quantile(np.concatenate(values), np.linspace(0, 1, _GRID), method="higher"))
    counts = np.array([np.bincount(np.searchsorted(grid, each), minlength=len(grid))
                       for each in values], dtype=np.float64)  # fmt: skip

    def statistic(weights: Floats) -> Floats:
        below = np.cumsum(weights @ counts, axis=1)
        places = (below < below[:, -1:] * percent / 100).sum(axis=1)
        found: Floats = grid[np.minimum(places, len(grid) - 1)]
        return found

    return statistic


def durations(parts: Sequence[Requests]) -> Floats:
    """Return seconds from the block before's last end (or the first sending) to each one's last."""
    ends = [max(end_of(request) or request["intended"] for request in part) for part in parts]
    return np.diff(np.array([min(request["intended"] for request in parts[0]), *ends]))


def figure_of(parts: Sequence[Requests], key: str) -> list[Floats]:
    """Return all values of a figure that the requests of each block have."""
    return [values(part, key) for part in parts]
