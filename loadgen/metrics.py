"""What is recorded of each request, and the figures made of it.

Definitions stand in DEFINITIONS, which goes into every summary, so that a figure is never read
without them. Only answers that came whole count in latencies and throughput.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from loadgen.ollama import Answer

INTERRUPTED = "interrupted"
PERCENTILES = (50, 90, 95, 99)

DEFINITIONS: Mapping[str, str] = {
    "clock": "time.perf_counter (monotonic); arrival is taken before the bytes are parsed",
    "percentiles": "linear interpolation between order statistics (numpy's 'linear')",
    "std": "sample standard deviation (n - 1)",
    "counted": "latency, throughput and server figures count requests that came whole",
    "ttft": "from sending to the first chunk with text; connections are opened beforehand, and "
    "connect time is recorded apart",
    "itl": "gaps between successive chunks with text (a chunk may carry several tokens); chunks "
    "that arrive in one segment have a gap of 0",
    "e2e": "from sending to the arrival of the final chunk",
    "tpot": "(e2e - ttft) / (output tokens - 1), by the server's own count of tokens",
    "seconds.measured": "from the common start to the end of the last request",
    "throughput": "whole requests, and their tokens, by seconds.measured",
    "per_request.output_tokens_per_second": "1 / tpot: the pace that one user sees while text "
    "comes; not the throughput",
    "server_seconds.queue": "e2e - load - prefill - decode: waiting for a slot, and the way "
    "there and back (the server's total_duration includes the wait)",
    "replicas": "requests = succeeded + failed + interrupted + retried_away; retried_away: refused "
    "or cut before any byte of the answer, and sent once more, to another replica; its times "
    "count from its first sending, its queue is not known",
    "dispatch_delay": "actual - intended sending; intended is the common start, then the end of "
    "the client's previous request (or when its new connection stood)",
}


@dataclass(slots=True)
class Record:
    """One request, as it was. Times are time.perf_counter() seconds; None: it did not come so far.

    `error` is a class of failure (connect, timeout, http_503, ollama_error, cut, bad_json,
    bad_http, interrupted), None for an answer that came whole; `message` the words to it.
    `replica`: URL; `retried_from`: of the replica that had it before. `unanswered`: it failed
    before any byte of an answer, so that another replica may have it.
    """

    index: int
    client: int
    intended: float
    replica: str = ""
    retried_from: str | None = None
    unanswered: bool = False
    connect: float | None = None
    sent: float | None = None
    end: float | None = None
    http_status: int | None = None
    error: str | None = None
    message: str | None = None
    answer: Answer = field(default_factory=Answer)

    def again(self) -> None:
        """Make it ready for another replica; its times count from its first sending, or from when
        it would have been sent had there been a connection."""
        self.retried_from, self.unanswered = self.replica, False
        self.sent = self.intended if self.sent is None else self.sent
        self.end = self.http_status = self.error = self.message = self.connect = None
        self.answer = Answer()

    @property
    def ttft(self) -> float | None:
        """Seconds from sending to the first text."""
        if self.sent is None or not self.answer.chunks:
            return None
        return self.answer.chunks[0] - self.sent

    @property
    def e2e(self) -> float | None:
        """Seconds from sending to the end, whole or not."""
        return None if self.sent is None or self.end is None else self.end - self.sent

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first."""
        tokens = self.answer.output_tokens
        if self.ttft is None or self.e2e is None or tokens is None or tokens < 2:
            return None
        return (self.e2e - self.ttft) / (tokens - 1)

    @property
    def itl(self) -> list[float]:
        """Seconds between successive chunks with text."""
        return [after - before for before, after in pairwise(self.answer.chunks)]

    @property
    def queue(self) -> float | None:
        """Seconds that the server does not account for as work."""
        parts = (self.answer.load, self.answer.prefill, self.answer.decode)
        if self.e2e is None or parts[2] is None or self.retried_from is not None:
            return None
        return max(0.0, self.e2e - sum(part or 0.0 for part in parts))


@dataclass(slots=True)
class Outage:
    """When a replica was taken out and was back (perf_counter), None: it was not; and why."""

    url: str
    begin: float
    why: str
    end: float | None = None


@dataclass(frozen=True)
class Measured:
    """All that a run saw. `start`: perf_counter() of the common start; `stopped`: why it ended
    before its time, None where it did not. The other times are seconds. `urls`: the replicas."""

    planned: int
    clients: int
    start: float
    records: Sequence[Record]
    warmup_seconds: float
    cpu_seconds: float
    loop_lags: Sequence[float]
    stopped: str | None
    urls: Sequence[str]
    outages: Sequence[Outage] = ()


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of ascending values, interpolated linearly between order statistics."""
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def distribution(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Mean, std, min, percentiles, max and n of the values that are there; None where none is."""
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
        **{f"p{p}": percentile(ordered, p) for p in PERCENTILES},
        "max": ordered[-1],
        "n": n,
    }


_NAMES = ("mean", "std", "min", *(f"p{p}" for p in PERCENTILES), "max")


def _some(values: Iterable[float | None], *names: str) -> dict[str, float | int | None]:
    every = distribution(values)
    return {name: every[name] for name in names}


def concurrency(spans: Iterable[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """How many requests were in flight: the mean over `seconds` of time, and the most at once."""
    steps: list[tuple[float, int]] = []
    busy = 0.0
    for begin, end in spans:
        steps += [(begin, 1), (end, -1)]
        busy += end - begin
    now = most = 0
    for _, step in sorted(steps):  # an end goes before a beginning of the same instant
        now += step
        most = max(most, now)
    return {"mean": busy / seconds if seconds > 0 else None, "max": most}


def summarise(measured: Measured) -> dict[str, Any]:
    """All figures of a run, as summary.json has them; None where a figure is not known."""
    records = measured.records
    whole = [record for record in records if record.error is None]
    ends = [record.end for record in records if record.end is not None]
    seconds = max(ends) - measured.start if ends else 0.0
    spans = [(r.sent, r.end) for r in records if r.sent is not None and r.end is not None]
    return {
        "partial": measured.stopped is not None,
        "stopped": measured.stopped,
        "requests": _requests(measured, whole),
        "replicas": [_replica(url, measured) for url in measured.urls],
        "seconds": {"measured": seconds, "warmup": measured.warmup_seconds},
        "concurrency": {"asked": measured.clients, **concurrency(spans, seconds)},
        "latency_seconds": {
            "ttft": distribution(record.ttft for record in whole),
            "itl": distribution(gap for record in whole for gap in record.itl),
            "tpot": distribution(record.tpot for record in whole),
            "e2e": distribution(record.e2e for record in whole),
        },
        "throughput": _throughput(whole, seconds),
        "per_request": {
            "output_tokens_per_second": distribution(1 / r.tpot for r in whole if r.tpot),
        },
        "server_seconds": _server(whole),
        "connect_seconds": distribution(record.connect for record in records),
        "client": _client(measured),
        "definitions": dict(DEFINITIONS),
    }


def _requests(measured: Measured, whole: Sequence[Record]) -> dict[str, Any]:
    errors = Counter(record.error for record in measured.records if record.error)
    interrupted = errors.pop(INTERRUPTED, 0)
    return {
        "planned": measured.planned,
        "started": len(measured.records),
        "succeeded": len(whole),
        "failed": sum(errors.values()),
        "interrupted": interrupted,
        "retried": sum(record.retried_from is not None for record in measured.records),
        "without_tokens": sum(not record.answer.output_tokens for record in whole),
        "errors": dict(sorted(errors.items())),
    }


def _replica(url: str, measured: Measured) -> dict[str, Any]:
    """What one replica did; `outages` in seconds from the common start, `to` None: to the end."""
    mine = [record for record in measured.records if record.replica == url]
    away = sum(record.retried_from == url for record in measured.records)
    whole = [record for record in mine if record.error is None]
    return {
        "url": url,
        "requests": len(mine) + away,
        "succeeded": len(whole),
        "failed": sum(record.error not in (None, INTERRUPTED) for record in mine),
        "retried_away": away,
        "output_tokens": sum(record.answer.output_tokens or 0 for record in whole),
        "outages": [_outage(o, measured.start) for o in measured.outages if o.url == url],
    }


def _outage(outage: Outage, start: float) -> dict[str, Any]:
    end = None if outage.end is None else max(0.0, outage.end - start)
    return {"from": max(0.0, outage.begin - start), "to": end, "why": outage.why}


def _throughput(whole: Sequence[Record], seconds: float) -> dict[str, float | None]:
    def rate(values: Iterable[int | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / seconds if known and seconds > 0 else None

    return {
        "requests_per_second": rate(1 for _ in whole),
        "output_tokens_per_second": rate(record.answer.output_tokens for record in whole),
        "input_tokens_per_second": rate(record.answer.input_tokens for record in whole),
    }


def _server(whole: Sequence[Record]) -> dict[str, Any]:
    return {
        "load": distribution(record.answer.load for record in whole),
        "prefill": distribution(record.answer.prefill for record in whole),
        "decode": distribution(record.answer.decode for record in whole),
        "queue": distribution(record.queue for record in whole),
    }


def _client(measured: Measured) -> dict[str, Any]:
    delays = (r.sent - r.intended for r in measured.records if r.sent is not None)
    return {
        "cpu_seconds": measured.cpu_seconds,
        "dispatch_delay_seconds": _some(delays, "p50", "p99", "max"),
        "loop_lag_seconds": _some(measured.loop_lags, "p99", "max"),
    }
