"""Histograms of latencies while a run goes on, as Prometheus has them.

The limits are those of vLLM for the same notions, so that one query fits both (vLLM,
vllm/v1/metrics/loggers.py: `time_to_first_token_seconds`, `inter_token_latency_seconds`, before
that `time_per_output_token_seconds`, and `e2e_request_latency_seconds`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import Any

from loadgen.records import Answer

# fmt: off
#: Upper limits in seconds, included in their bucket; above the last one there is one more.
BUCKETS: Mapping[str, tuple[float, ...]] = {
    "ttft": (
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
    ),
    "itl": (
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        20.0, 40.0, 80.0,
    ),
    "e2e": (
        0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
        240.0, 480.0, 960.0, 1920.0, 7680.0,
    ),
}
# fmt: on


class Histogram:
    """How many values are in each bucket (not cumulated; the last one has no limit), and their sum
    in seconds."""

    __slots__ = ("counts", "limits", "sum")

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.limits, value)] += 1
        self.sum += value

    def add_all(self, values: Iterable[float]) -> None:
        """Count many at once: a look-up for each bucket that they fall into, not for each value."""
        ordered = sorted(values)
        done, limits = 0, self.limits
        while done < len(ordered):
            bucket = bisect_left(limits, ordered[done])
            rest = bucket == len(limits)
            upto = len(ordered) if rest else bisect_right(ordered, limits[bucket], done)
            self.counts[bucket] += upto - done
            done = upto
        self.sum += sum(ordered)

    def merge(self, counts: Sequence[int], total: float) -> None:
        """Add another one's counts and sum."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.sum += total


def _histograms() -> dict[str, Histogram]:
    return {name: Histogram(limits) for name, limits in BUCKETS.items()}


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
        """A request has failed."""
        self.error += 1

    def succeed(self, answer: Answer, began: float, end: float) -> None:
        """A request's answer came whole; times are perf_counter() seconds, latencies count from
        `began`."""
        self.ok += 1
        self.input_tokens += answer.input_tokens or 0
        self.output_tokens += answer.output_tokens or 0
        chunks = answer.chunks
        if chunks:
            self.histograms["ttft"].add(chunks[0] - began)
            self.histograms["itl"].add_all(map(sub, chunks[1:], chunks))
        self.histograms["e2e"].add(end - began)

    def as_dict(self) -> dict[str, Any]:
        """As a line of --json-progress has it."""
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

    def add(self, other: Mapping[str, Any]) -> Tally:
        """This one, with what another one's `as_dict` holds added."""
        for name, histogram in self.histograms.items():
            one = other["histograms"][name]
            histogram.merge(one["counts"], one["sum"])
        self.ok += other["ok"]
        self.error += other["error"]
        self.input_tokens += other["input_tokens"]
        self.output_tokens += other["output_tokens"]
        return self
