"""The requests of the last 15 minutes in steps of some seconds: counters that are always kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import floor

from contracts.figures import gaps, ttft
from contracts.generation import Generation
from contracts.histograms import BUCKETS, Histogram, Tally
from contracts.live.state import POINTS, STEP_S, Point, Series


def _histogram(key: str) -> Callable[[], Histogram]:
    return lambda: Histogram(BUCKETS[key])


@dataclass
class _Step:
    ttft: Histogram = field(default_factory=_histogram("ttft"))
    itl: Histogram = field(default_factory=_histogram("itl"))
    tokens: float = 0.0
    queued: int = 0
    in_flight: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer that is whole: when its tokens came (Unix times), how many they were, the seconds
    until the first one, and those between two of them; None if it came in one piece."""

    first_at: float
    last_at: float
    tokens: int
    ttft_s: float | None = None
    gaps_s: tuple[float, ...] | None = None

    @property
    def mean_gap_s(self) -> float | None:
        """Seconds between two tokens, on average."""
        lasts = self.last_at - self.first_at
        return lasts / (self.tokens - 1) if self.ttft_s is not None and self.tokens > 1 else None


@dataclass(frozen=True)
class _Ended:
    """As contracts.figures looks at a request."""

    answer: Generation
    started_at: float
    end: float


def answer_of(said: Generation, started_at: float, now: float, at: float) -> Answer:
    """Return a query's answer, whose times are those of time.perf_counter, which says `now` when
    it is `at` by the clock."""
    end = said.end or now
    request = _Ended(said, started_at, end)
    first = said.chunks[0] if said.chunks else started_at
    return Answer(
        at - (now - first),
        at - (now - end),
        said.output_tokens or len(said.chunks),
        ttft(request) if said.chunks else None,
        tuple(gaps(request)) if said.chunks else None,
    )


class Recorder:
    """The steps, for any thread. `changed`: whether steps that are over have changed since
    somebody has taken them; answers count when their tokens came, and are known at their end."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._first = self._number(clock())
        self._steps: deque[_Step] = deque([_Step()], maxlen=POINTS + 1)
        self._benchmarks = Tally().as_dict()
        self.changed = False

    def _number(self, at: float) -> int:
        return floor(at / STEP_S)

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        with self._lock:
            self._go_on()
            if answer.ttft_s is not None and (step := self._step(self._number(answer.first_at))):
                step.ttft.add(answer.ttft_s)
            if answer.gaps_s and (step := self._step(self._number(answer.last_at))):
                step.itl.add_all(answer.gaps_s)
            for number, share in _shares(answer.first_at, answer.last_at):
                if (step := self._step(number)) is not None:
                    step.tokens += answer.tokens * share
                    self.changed |= step is not self._steps[-1]
                    mean = answer.mean_gap_s
                    if mean is not None and answer.gaps_s is None:
                        _add_many(step.itl, mean, round(answer.tokens * share))

    def answered(self, said: Generation, started_at: float) -> None:
        """Count the answer of a query that has just ended."""
        self.add(answer_of(said, started_at, time.perf_counter(), self._clock()))

    def note(self, queued: int, in_flight: int, benchmarks: Tally) -> None:
        """Take how many wait and are worked on now, and all that benchmarks have counted so far,
        which ask the engines themselves."""
        told = benchmarks.as_dict()
        with self._lock:
            self._go_on()
            step, before = self._steps[-1], self._benchmarks
            step.queued, step.in_flight = queued, in_flight
            step.tokens += max(0, told["output_tokens"] - before["output_tokens"])
            for key, histogram in (("ttft", step.ttft), ("itl", step.itl)):
                old, new = before["histograms"][key]["counts"], told["histograms"][key]["counts"]
                more = [max(0, b - a) for a, b in zip(old, new, strict=True)]
                histogram.merge(more, 0.0)
            self._benchmarks = told

    def last(self) -> Point | None:
        """Return the last step that is over; None if there is none yet."""
        with self._lock:
            self._go_on()
            if len(self._steps) < 2:
                return None
            return _point((self._first + len(self._steps) - 2) * STEP_S, self._steps[-2])

    def whole(self) -> Series | None:
        """Return all steps that are over; None if there is none yet."""
        with self._lock:
            self._go_on()
            self.changed = False
            done = list(self._steps)[:-1]
            points = [
                _point((self._first + number) * STEP_S, step) for number, step in enumerate(done)
            ]
        if not points:
            return None
        keys = [key for key in Point.model_fields if key != "time"]
        lists = {key: tuple(getattr(point, key) for point in points) for key in keys}
        return Series(start=points[0].time, step_s=STEP_S, **lists)

    def _go_on(self) -> None:
        """Begin the steps whose time has come."""
        now = self._number(self._clock())
        behind = now - (self._first + len(self._steps) - 1)
        if behind < 0 or behind > POINTS:  # the clock was set, or nobody has counted for long
            self._steps.clear()
            self._steps.append(_Step())
            self._first = now
            return
        for _ in range(behind):
            last = self._steps[-1]
            self._first += len(self._steps) == self._steps.maxlen
            self._steps.append(_Step(queued=last.queued, in_flight=last.in_flight))

    def _step(self, number: int) -> _Step | None:
        at = number - self._first
        return self._steps[at] if 0 <= at < len(self._steps) else None


def _shares(first: float, last: float) -> Iterator[tuple[int, float]]:
    """Each step between two times, with its share of that."""
    lasts = last - first
    if lasts <= 0:
        yield floor(last / STEP_S), 1.0
        return
    for number in range(floor(first / STEP_S), floor(last / STEP_S) + 1):
        begins = number * STEP_S
        share = (min(last, begins + STEP_S) - max(first, begins)) / lasts
        if share > 0:
            yield number, share


def _add_many(histogram: Histogram, value: float, times: int) -> None:
    one = Histogram(histogram.bounds)
    one.add(value)
    histogram.merge([count * times for count in one.counts], one.sum * times)


def _point(at: float, step: _Step) -> Point:
    return Point(
        time=at,
        ttft_p50=percentile(step.ttft, 0.5),
        ttft_p99=percentile(step.ttft, 0.99),
        itl_p50=percentile(step.itl, 0.5),
        itl_p99=percentile(step.itl, 0.99),
        tokens_per_s=round(step.tokens / STEP_S, 2),
        queued=step.queued,
        in_flight=step.in_flight,
    )


def percentile(histogram: Histogram, share: float) -> float | None:
    """Return a percentile as Prometheus estimates it: evenly within a bucket; None if there are no
    values."""
    all_of_them = sum(histogram.counts)
    if not all_of_them:
        return None
    wanted, below = share * all_of_them, 0
    for number, upto in enumerate(accumulate(histogram.counts)):
        if upto >= wanted and upto > below:
            if number == len(histogram.bounds):
                break
            low = histogram.bounds[number - 1] if number else 0.0
            high = histogram.bounds[number]
            return round(low + (high - low) * (wanted - below) / (upto - below), 6)
        below = upto
    return float(histogram.bounds[-1])
