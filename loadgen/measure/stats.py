"""Distributions, and how many requests were in flight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from contracts.summary import PERCENTILES, Distribution

#: Share of the requests that may fail, or be otherwise than asked for, in a valid run.
MAX_ERROR_RATE = 0.01


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the percentile of ascending values, interpolated linearly between order statistics."""
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def supported(percent: float, n: int) -> bool:
    """Return whether `n` values support a percentile: at least one of them is to lie beyond it. The
    p99 of 20 values would be no more than another name for their greatest."""
    return n * (100 - percent) >= 100


def distribution(values: Iterable[float | None]) -> Distribution:
    """Return that of the values that are there; percentiles that they do not support are None."""
    ordered = sorted(value for value in values if value is not None)
    n = len(ordered)
    if not n:
        return Distribution()
    mean = math.fsum(ordered) / n
    squares = math.fsum((value - mean) ** 2 for value in ordered)
    return Distribution(
        mean=mean,
        std=math.sqrt(squares / (n - 1)) if n > 1 else None,
        min=ordered[0],
        **{f"p{p}": percentile(ordered, p) if supported(p, n) else None for p in PERCENTILES},
        max=ordered[-1],
        n=n,
    )


def some(values: Iterable[float | None], *names: str) -> dict[str, float | None]:
    """Return these figures of a distribution alone."""
    every = distribution(values)
    return {name: every.at(name) for name in names}


def concurrency(
    spans: Iterable[tuple[float, float]], begin: float, end: float
) -> tuple[float | None, int]:
    """Return how many requests were in flight: the mean over the time from `begin` to `end`, and
    the most at once, at any time."""
    steps: list[tuple[float, int]] = []
    busy = 0.0
    for first, last in spans:
        steps += [(first, 1), (last, -1)]
        busy += max(0.0, min(last, end) - max(first, begin))
    now = most = 0
    for _, step in sorted(steps):  # an end goes before a beginning of the same instant
        now += step
        most = max(most, now)
    return busy / (end - begin) if end > begin else None, most
