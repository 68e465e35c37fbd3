"""Histograms of latencies while a run goes on, as Prometheus has them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

from contracts.figures import BY_KEY, FIGURES
from contracts.generation import Generation

#: Upper bounds, in seconds, of the figures that have a histogram, by their keys.
BUCKETS = {figure.key: figure.live.buckets for figure in FIGURES if figure.live}


class Histogram:
    """How many values are in each bucket (not cumulated; the last one has no bound), and their sum
    in seconds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_all(self, values: Iterable[float]) -> None:
        """Count many at once: a lookup for each bucket that they fall into, not for each value."""
        ordered = sorted(values)
        done, bounds = 0, self.bounds
        while done < len(ordered):
            bucket = bisect_left(bounds, ordered[done])
            rest = bucket == len(bounds)
            upto = len(ordered) if rest else bisect_right(ordered, bounds[bucket], done)
            self.counts[bucket] += upto - done
            done = upto
        self.sum += sum(ordered)

    def merge(self, counts: Sequence[int], total: float) -> None:
        """Add another one's counts and sum."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.sum += total


def _histograms() -> dict[str, Histogram]:
    return {key: Histogram(bounds) for key, bounds in BUCKETS.items()}


class HistogramCounts(TypedDict):
    """A histogram as JSON has it."""

    counts: Sequence[int]
    sum: float


class TallyCounts(TypedDict):
    """A tally as JSON has it."""

    ok: int
    error: int
    input_tokens: int
    output_tokens: int
    histograms: Mapping[str, HistogramCounts]


class _Finished(NamedTuple):
    answer: Generation
    started_at: float
    end: float


@dataclass(slots=True)
class Tally:
    """What became of requests so far. Tokens and histograms are of those whose answer came whole;
    interrupted ones are counted nowhere."""

    ok: int = 0
    error: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    histograms: dict[str, Histogram] = field(default_factory=_histograms)

    def fail(self) -> None:
        """Count a request that failed."""
        self.error += 1

    def succeed(self, answer: Generation, started_at: float, end: float) -> None:
        """Count a request whose answer came whole; times are perf_counter() seconds, latencies
        count from `started_at`."""
        self.ok += 1
        self.input_tokens += answer.input_tokens or 0
        self.output_tokens += answer.output_tokens or 0
        request = _Finished(answer, started_at, end)
        for key, histogram in self.histograms.items():
            figure = BY_KEY[key]
            if figure.each is not None:
                histogram.add_all(figure.each(request))
            elif (value := figure.of(request)) is not None:
                histogram.add(value)

    def as_dict(self) -> TallyCounts:
        """Return it as a line of --json-progress has it."""
        return {
            "ok": self.ok,
            "error": self.error,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "histograms": {
                name: {"counts": each.counts, "sum": each.sum}
                for name, each in self.histograms.items()
            },
        }

    def add(self, other: TallyCounts) -> Tally:
        """Add what another one's `as_dict` holds, and return this one."""
        for name, histogram in self.histograms.items():
            one = other["histograms"][name]
            histogram.merge(one["counts"], one["sum"])
        self.ok += other["ok"]
        self.error += other["error"]
        self.input_tokens += other["input_tokens"]
        self.output_tokens += other["output_tokens"]
        return self
