"""What known_server.c with slots does to requests that come by chance, without waiting for it.

Arrivals are Poisson, each slot takes the same time for each request, first come, first served
(M/D/c in Kendall's notation). So how long requests wait is known for any load beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LONG, _SEED = 400_000, 5


@dataclass(frozen=True)
class Queue:
    """`slots` that take `seconds` for a request, of which a good one waits at most `wait`."""

    slots: int
    seconds: float
    wait: float

    def good(
        self, rates: NDArray[np.float64], requests: int, dice: np.random.Generator
    ) -> NDArray[np.int64]:
        """How many of so many requests are good, in a run at each of the rates.

        As all take equally long, each slot takes every so-manieth one: number j of a slot begins
        when it comes or when j - 1 has ended, so begin - j * seconds is the greatest up to j of
        arrival - j * seconds.
        """
        rounds = -(-requests // self.slots)
        came = np.full((len(rates), rounds * self.slots), np.inf)
        came[:, :requests] = dice.exponential(1, (len(rates), requests)).cumsum(axis=1)
        came[:, :requests] /= rates[:, None]
        came = came.reshape(len(rates), rounds, self.slots)
        shift = np.arange(rounds)[None, :, None] * self.seconds
        waited = np.maximum.accumulate(came - shift, axis=1) + shift
        with np.errstate(invalid="ignore"):  # what came never
            waited -= came
        found: NDArray[np.int64] = (waited <= self.wait).sum(axis=(1, 2))
        return found

    def share(self, rate: float) -> float:
        """The share of good requests in the long run."""
        good = self.good(np.array([rate]), _LONG, np.random.default_rng(_SEED))
        return float(good[0]) / _LONG

    def limit(self, share: float) -> float:
        """The rate at which this share is good, by halving."""
        low, high = 0.0, self.slots / self.seconds
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if self.share(middle) >= share else (low, middle)
        return low
