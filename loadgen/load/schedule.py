"""Which request is sent when and by whom: all of it follows from the options, whatever happens.

With several processes each takes its share of one schedule, and none draws numbers of its own: the
arrivals of an open loop are drawn from one seed by each of them, and every n-th one is theirs.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from loadgen.options import Options


@dataclass(frozen=True, slots=True)
class Planned:
    """One request before it is sent. Its prompt follows from its index, its replica is chosen when
    it is sent. `at`: seconds from the start, in an open loop."""

    index: int
    client: int | None
    seed: int
    at: float = 0.0


def clients_of(options: Options, process: int) -> range:
    """Return the clients of a closed loop that are a process's."""
    return range(process, options.clients or 0, options.workers)


def closed_loop(options: Options, client: int) -> Iterator[Planned]:
    """Yield the requests of one client, one after another: those whose index is `client` mod
    clients; without end if the run has a duration."""
    assert options.clients is not None
    for index in itertools.count(client, options.clients):
        if options.requests is not None and index >= options.requests:
            return
        yield _planned(options, index, client)


def open_loop(options: Options, process: int) -> Iterator[Planned]:
    """Yield the requests of one process, with the times at which they are to be sent."""
    for index, at in enumerate(arrivals(options)):
        if index % options.workers == process:
            yield _planned(options, index, None, at)


def arrivals(options: Options) -> Iterator[float]:
    """Yield when each request of an open loop is to be sent, in seconds from the start.

    Poisson arrivals have exponential gaps of mean 1 / rate.
    """
    assert options.rate is not None
    drawn = random.Random(f"arrivals {options.seed}")
    gap = 1 / options.rate
    at = 0.0
    for index in itertools.count():
        at = index * gap if options.arrivals == "constant" else at + drawn.expovariate(options.rate)
        done = options.requests is not None and index >= options.requests
        if done or (options.duration_seconds is not None and at >= options.duration_seconds):
            return
        yield at


def warm_up(options: Options, process: int) -> Iterator[Planned]:
    """Yield the warm-up requests of each replica by one process, which has at least one: it is to
    be warm itself. Their prompts are as the run's last ones might be, not its first ones, which are
    not to be found in a cache."""
    for index in range(process, max(options.warmup, options.workers), options.workers):
        yield _planned(options, _WARM_UP_INDEX + index, None)


#: Beyond all indices of a run.
_WARM_UP_INDEX = 10**7


def _planned(options: Options, index: int, client: int | None, at: float = 0.0) -> Planned:
    return Planned(index, client, (options.seed + index) % 2**31, at)
