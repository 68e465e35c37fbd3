"""What servers with slots do to requests, without waiting for it: how long requests wait is known
for any load beforehand, first come, first served.

`Queue` is known_server.c: requests come by chance (Poisson), each takes the same time (M/D/c in
Kendall's notation). `Circle` has clients that ask again as soon as they are answered, and answers
of lengths by chance.
"""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Circle:
    """`slots` that take `seconds` for a request in the mean (exponential), of which a good one
    waits at most `wait`."""

    slots: int
    seconds: float
    wait: float

    def good(self, clients: int, requests: int, dice: np.random.Generator) -> int:
        """How many of so many requests are good in a run of that many clients.

        All slots are busy, so requests end at the slots' rate, by chance. Each that ends lets the
        first in the queue begin, and its client asks anew, behind all the others.
        """
        queue = clients - self.slots
        if queue <= 0:
            return requests
        ends = dice.exponential(self.seconds / self.slots, requests).cumsum()
        came = np.concatenate([np.zeros(queue), ends])[:requests]
        # Those that find a slot at the beginning do not wait; request `slots` + k begins at end k.
        return int((ends - came <= self.wait)[: requests - self.slots].sum()) + self.slots

    def share(self, clients: int) -> float:
        """The share of good requests in the long run: as many have to end within `wait` as are
        before it, and those that end are Poisson."""
        mean, queue = self.wait * self.slots / self.seconds, clients - self.slots
        fewer = range(max(0, queue))
        return 1 - sum(math.exp(-mean) * mean**n / math.factorial(n) for n in fewer)

    def limit(self, share: float) -> int:
        """The most clients with which this share is good."""
        clients = self.slots
        while self.share(clients + 1) >= share:
            clients += 1
        return clients
