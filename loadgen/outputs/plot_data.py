"""What the plots show, made of requests.jsonl: far fewer points than there are requests.

Only plots are drawn of these; no figure is computed of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.figures import BY_KEY
from loadgen.measurements import RequestLine

Floats = NDArray[np.float64]
Requests = Sequence[RequestLine]

MOST_POINTS = 300
MOST_SLICES = 100


def whole(requests: Requests) -> list[RequestLine]:
    """Return the requests whose answer came whole."""
    return [request for request in requests if request["error"] is None]


def counted(requests: Requests) -> list[RequestLine]:
    """Return those of them that the figures count: they began in the window of steady load."""
    return [request for request in whole(requests) if request.get("in_window", True)]


def latency(request: RequestLine, key: str) -> float | None:
    """Return a figure of a request that has one value of it, by its key; None if it has none."""
    value = request.get(key)
    return value if isinstance(value, (int, float)) else None


def values(requests: Requests, key: str) -> Floats:
    """Return all values of a figure, in seconds, of the requests that count; maybe none."""
    if BY_KEY[key].each is not None:
        found = [gap for r in counted(requests) for gap in r.get("gaps") or ()]
    else:
        found = [value for r in counted(requests) if (value := latency(r, key)) is not None]
    return np.array(found, dtype=np.float64)


def ecdf(found: Floats) -> tuple[Floats, Floats]:
    """Return points of the empirical distribution: values, and the share of values not above each.

    Of more than `MOST_POINTS` every so many'th is taken, and closer ones towards the slow end,
    which is what one looks for; least and greatest are always among them.
    """
    ordered = np.sort(found)
    n = len(ordered)
    ranks = np.arange(n)
    if n > MOST_POINTS:
        even = np.linspace(0, n - 1, MOST_POINTS * 2 // 3)
        tail = n - np.geomspace(1, n, MOST_POINTS // 3)
        ranks = np.unique(np.concatenate([even, tail]).astype(np.int64))
    return ordered[ranks], (ranks + 1) / n


@dataclass(frozen=True)
class Slices:
    """Equal slices of time: `width` seconds each, from 0 to `end`, which lies in the last one."""

    width: float
    end: float

    @property
    def edges(self) -> Floats:
        """Their borders, one more than there are slices; the last slice ends with the run."""
        whole_ones = np.arange(int(np.ceil(self.end / self.width - 1e-9))) * self.width
        return np.append(whole_ones, self.end)

    def add_up(self, times: Floats, weights: Floats) -> Floats:
        """Return the sum of the weights whose time lies in each slice."""
        return np.histogram(times, self.edges, weights=weights)[0].astype(np.float64)


def slices(requests: Requests, most: int = MOST_SLICES) -> Slices | None:
    """Slices of a round width from the start to the last end; None: nothing has ended."""
    end = max((end for r in requests if (end := end_of(r)) is not None), default=0.0)
    if end <= 0:
        return None
    rough = end / most
    power = 10.0 ** np.floor(np.log10(rough))
    width = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
    return Slices(float(width), float(end))


def begin_of(request: RequestLine) -> float | None:
    """Return where its latencies begin: its sending, in an open loop (no client) the intended."""
    if request["sent"] is None:
        return None
    return float(request["sent"] if request["client"] is not None else request["intended"])


def end_of(request: RequestLine) -> float | None:
    """Return when it ended, whole or not; None if it was not sent or its end is not known."""
    begin = begin_of(request)
    return None if begin is None or request["e2e"] is None else float(begin + request["e2e"])


def tokens_per_second(requests: Requests, over: Slices) -> Floats:
    """Return output tokens of whole requests per second of each slice, as their text arrives."""
    parts = list(_arrivals(requests))
    if not parts:
        return np.zeros(len(over.edges) - 1)
    times = np.concatenate([times for times, _ in parts])
    weights = np.concatenate([np.full(len(times), each) for times, each in parts])
    return over.add_up(times, weights) / np.diff(over.edges)


def _arrivals(requests: Requests) -> Iterator[tuple[Floats, float]]:
    """Of each whole request: when its chunks came, and how many tokens each stands for."""
    for request in whole(requests):
        begin, end = begin_of(request), end_of(request)
        if begin is None or end is None:
            continue
        chunks = np.array([end])
        if request["ttft"] is not None:
            chunks = begin + request["ttft"] + np.concatenate([[0.0], np.cumsum(request["gaps"])])
        yield np.minimum(chunks, end), (request["output_tokens"] or 0) / len(chunks)


def in_flight(requests: Requests, over: Slices) -> Floats:
    """Return how many requests were in flight, mean of each slice."""
    spans = [(r["sent"], end_of(r)) for r in requests if end_of(r) is not None]
    begins, ends = np.array(spans, dtype=np.float64).T
    low, high = over.edges[:-1], over.edges[1:]
    busy = [np.clip(np.minimum(ends, b) - np.maximum(begins, a), 0, None).sum()
            for a, b in zip(low, high, strict=True)]  # fmt: skip
    return np.array(busy) / (high - low)


@dataclass(frozen=True)
class Course:
    """A latency over time: of each slice in which a request ended its middle, least, median and
    greatest value."""

    times: Floats
    least: Floats
    median: Floats
    greatest: Floats


def by_end(requests: Requests, key: str) -> Floats:
    """Return a row for each whole request that has the figure: its end, and the figure."""
    known = [(end_of(r), value) for r in whole(requests) if (value := latency(r, key)) is not None]
    return np.array(known, dtype=np.float64).reshape(-1, 2)


def course(requests: Requests, key: str, over: Slices) -> Course:
    """Return a figure of the whole requests by the time of their end."""
    pairs = by_end(requests, key)
    places = np.searchsorted(over.edges, pairs[:, 0], side="right") - 1
    places = np.clip(places, 0, len(over.edges) - 2)
    found = [(place, pairs[places == place, 1]) for place in np.unique(places)]
    middles = (over.edges[:-1] + over.edges[1:]) / 2
    return Course(
        np.array([middles[place] for place, _ in found]),
        np.array([each.min() for _, each in found]),
        np.array([np.median(each) for _, each in found]),
        np.array([each.max() for _, each in found]),
    )


def failures(requests: Requests, over: Slices) -> dict[str, Floats]:
    """Return how many requests failed in each slice by class of error, most frequent first."""
    times: dict[str, list[float]] = {}
    for request in requests:
        if request["error"] is not None:
            times.setdefault(request["error"], []).append(end_of(request) or 0.0)
    classes = sorted(times, key=lambda name: -len(times[name]))
    return {name: over.add_up(np.array(times[name]), np.ones(len(times[name]))) for name in classes}
