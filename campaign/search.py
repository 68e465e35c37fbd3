"""The highest rate, or number of clients, that still keeps the service level objective.

A run tells the share of its requests that were good, by chance more or fewer. All limits, and all
ways in which goodput may fall with the load, are held against all runs (Bayes); the next run is
where the limit is as likely below as above. So it is bisection that forgives a wrong answer and
makes use of how good a share was, as in the measurement of thresholds of perception (QUEST: A. B.
Watson, D. G. Pelli, Perception & Psychophysics 33, 1983; unknown steepness: L. L. Kontsevich, C. W.
Tyler, Vision Research 39, 1999; why the median: R. Waeber, P. I. Frazier, S. G. Henderson, SIAM J.
Control Optim. 51, 2013).

Chosen by simulation: 200 searches from 1 to 200 requests/s with 10 runs of 4,000 requests at most,
for 95 %, of each of five queues (benchmarks/known_queue.py) of 1 to 16 slots, with limits at 0.56
to 0.87 of what they can do:

| | within 5 % of the limit | root mean square error | runs |
|---|---|---|---|
| this | 100 % of each queue | 1.1 to 1.7 % | 9.0 to 9.6 |
| bisection | 95.0 to 98.5 % | 2.1 to 2.5 % | 10 |
| bisection, each point twice | 0 to 98.0 % | 3.7 to 7.5 % | 10 |
| up and down by 5 %, after six bisections | 93.5 to 97.0 % | 2.2 to 2.6 % | 10 |

(Up and down: W. J. Dixon, A. M. Mood, J. Am. Stat. Assoc. 43, 1948.)
Numbers of clients are searched in the same way, and are whole (tests/unit/test_campaign_search.py).
Its intervals held the limit in 89 to 96 %. Runs that are too short for the queue to become what it
will be look too good: at 0.85 of what the server can do, 500 requests gave 4 % too much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadgen.compare.intervals import TAIL
from loadgen.outputs.plot_data import Floats

#: How many runs a search takes at most, and how narrow an interval ends it before that, as a share.
MOST_RUNS, NARROW = 10, 0.05
_POINTS = 500
#: How far beyond both ends the limit is believed possible, as a logarithm: one that lies outside
#: is not taken for one at the end.
_BEYOND = 0.3
#: How fast the odds of a good request fall with the logarithm of the load, and how far a run's own
#: odds are off, as a logarithm. Neither is known, so all of these are thought of at once.
_STEEPNESS = np.exp(np.linspace(math.log(3), math.log(300), 10))
_SCATTER = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
#: Log odds further than this from the objective's say only on which side of the limit the run was:
#: far from it the curve is another one.
_NEAR = 1.5


@dataclass(frozen=True)
class Capacity:
    """What a search has found: the highest load that keeps the objective is `value`, with 95 %
    between `low` and `high`. `where`: `below` if even the low end of what was searched does not
    keep it, `above` if the high end does; then `value` is that end, and no more is known."""

    value: float
    low: float
    high: float
    where: Literal["inside", "below", "above"]
    runs: int


class Search:
    """Asks for one run after another: `next` is the load to measure, None when it is done; `tell`
    takes what was found. The same answers lead to the same next run."""

    def __init__(
        self, low: float, high: float, goodput: float, *, whole: bool = False, most: int = MOST_RUNS
    ) -> None:
        """Search from `low` to `high` requests/s (`whole`: clients) for the highest at which the
        share `goodput` of requests keeps its limits. Raises ValueError if these make no sense."""
        if not (0 < low < high and 0 < goodput < 1 and most > 0):
            raise ValueError(
                f"A search from {low:g} to {high:g} for a share of {goodput:g} in {most} runs "
                "makes no sense: it takes 0 < low < high, a share between 0 and 1, and a run."
            )
        self._low, self._high, self._whole = low, high, whole
        self._most, self._runs = most, 0
        self._objective = _log_odds(goodput)
        self._limits = np.linspace(math.log(low) - _BEYOND, math.log(high) + _BEYOND, _POINTS)
        self._likelihood = np.zeros((_POINTS, len(_STEEPNESS), len(_SCATTER)))  # its logarithm
        self._below = np.linspace(0, 1, _POINTS)  # how surely the limit is below each of _limits

    def next(self) -> float | None:
        """Return the load of the next run: where the limit is as likely below as above."""
        if self._runs >= self._most or self._is_narrow():
            return None
        load = self._inside(self._quantile(0.5))
        return float(round(load)) if self._whole else load

    def tell(self, load: float, good: int, of: int) -> None:
        """Take into account that `good` of `of` requests of a run were good. A run without requests
        says nothing, but counts."""
        self._runs += 1
        if of < 1:
            return
        found = _log_odds((good + 0.5) / (of + 1)) - self._objective
        expected = _STEEPNESS[:, None] * (self._limits[:, None, None] - math.log(load))
        self._likelihood += _log_likelihood(found, expected)
        weights = np.exp(self._likelihood - self._likelihood.max()).sum(axis=(1, 2))
        self._below = np.cumsum(weights) / weights.sum()

    @property
    def estimate(self) -> Capacity:
        """What is known by now."""
        middle, low, high = (self._quantile(at) for at in (0.5, TAIL, 1 - TAIL))
        where: Literal["inside", "below", "above"] = "inside"
        if not self._low <= middle <= self._high:
            where = "below" if middle < self._low else "above"
        value = self._inside(middle)
        return Capacity(
            float(math.floor(value)) if self._whole else value, low, high, where, self._runs
        )

    def _is_narrow(self) -> bool:
        low, high = self._quantile(TAIL), self._quantile(1 - TAIL)
        return high < low * (1 + NARROW) or (self._whole and math.floor(low) == math.floor(high))

    def _inside(self, load: float) -> float:
        return min(max(load, self._low), self._high)

    def _quantile(self, share: float) -> float:
        return math.exp(float(np.interp(share, self._below, self._limits)))


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


def _log_likelihood(found: float, expected: Floats) -> Floats:
    """Of log odds that scatter about what is expected by a logistic distribution, which forgives
    outliers; of those that are not near, that they are not."""
    if abs(found) >= _NEAR:
        beyond = (math.copysign(1.0, found) * expected - _NEAR) / _SCATTER
        return np.asarray(-np.logaddexp(0, -beyond))
    off = (found - expected) / _SCATTER
    return np.asarray(-off - 2 * np.logaddexp(0, -off) - np.log(_SCATTER))
