"""Distributions, and how many requests were in flight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

PERCENTILES = (50, 90, 95, 99)
#: Mean, std, min, percentiles, max and n; None where there is no such value.
Distribution = dict[str, Any]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of ascending values, interpolated linearly between order statistics."""
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def supported(percent: float, n: int) -> bool:
    """Whether `n` values support a percentile: at least one of them is to lie beyond it. The p99 of
    20 values would be no more than another name for their greatest."""
    return n * (100 - percent) >= 100


def distribution(values: Iterable[float | None]) -> Distribution:
    """Of the values that are there; percentiles that they do not support are None."""
    ordered = sorted(value for value in values if value is not None)
    n = len(ordered)
    if not n:
        return dict.fromkeys(_NAMES) | {"n": 0}
    mean = math.fsum(ordered) / n
    squares = math.fsum((value - mean) ** 2 for value in ordered)
    return {
        "mean": mean,
        "std": math.sqrt(squares / (n - 1)) if n > 1 else None,
        "min": ordered[0],
        **{f"p{p}": percentile(ordered, p) if supported(p, n) else None for p in PERCENTILES},
        "max": ordered[-1],
        "n": n,
    }


_NAMES = ("mean", "std", "min", *(f"p{p}" for p in PERCENTILES), "max")


def some(values: Iterable[float | None], *names: str) -> Distribution:
    """Of a distribution these alone."""
    every = distribution(values)
    return {name: every[name] for name in names}


def concurrency(spans: Iterable[tuple[float, float]], begin: float, end: float) -> dict[str, Any]:
    """How many requests were in flight: the mean over the time from `begin` to `end`, and the most
    at once, at any time."""
    steps: list[tuple[float, int]] = []
    busy = 0.0
    for first, last in spans:
        steps += [(first, 1), (last, -1)]
        busy += max(0.0, min(last, end) - max(first, begin))
    now = most = 0
    for _, step in sorted(steps):  # an end goes before a beginning of the same instant
        now += step
        most = max(most, now)
    return {"mean": busy / (end - begin) if end > begin else None, "max": most}
