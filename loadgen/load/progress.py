"""How far a run is, for those who watch it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TypedDict

from contracts.figures import ttft
from contracts.histograms import Tally, TallyCounts
from loadgen.measurements import RequestRecord

#: Of so many requests that ended last the median is taken.
RECENT = 1000


class ProgressLine(TypedDict, total=False):
    """How far a run is, as --json-progress prints it: seconds, and requests or tokens per
    second."""

    phase: str
    planned: int | None
    done: int
    failed: int
    in_flight: int
    elapsed_seconds: float
    requests_per_second: float | None
    output_tokens_per_second: float | None
    ttft_p50: float | None


class CountedLine(ProgressLine, TallyCounts):
    """The same with counts and histograms, if somebody asks for them."""


@dataclass(frozen=True)
class Counts:
    """What one process of several has counted; `tally` as its `as_dict`."""

    done: int = 0
    failed: int = 0
    tokens: int = 0
    in_flight: int = 0
    tally: TallyCounts | None = None


@dataclass
class RunProgress:
    """`phase` is "warmup", then "measure"; seconds count from its beginning. `planned` is None
    if the run's time is given and not its requests. `tally`: what is counted beside that, if
    somebody asks for it."""

    planned: int | None
    tally: Tally | None = None
    phase: str = "warmup"
    done: int = 0
    failed: int = 0
    tokens: int = 0
    in_flight: int = 0
    ttfts: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    started_at: float = field(default_factory=perf_counter)

    def measure_from(self, start: float) -> None:
        """Begin the measurement."""
        self.phase, self.started_at = "measure", start

    def note(self, record: RequestRecord) -> None:
        """Count a request that has ended by itself, whole or failed."""
        self.done += 1
        self.failed += record.error is not None
        self.tokens += record.answer.output_tokens or 0
        if record.error is None and (first := ttft(record)) is not None:
            self.ttfts.append(first)
        if self.tally is None:
            return
        if record.error is None and record.started_at is not None and record.end is not None:
            self.tally.succeed(record.answer, record.started_at, record.end)
        else:
            self.tally.fail()

    def counts(self) -> Counts:
        """Return what another process adds up."""
        tally = None if self.tally is None else self.tally.as_dict()
        return Counts(self.done, self.failed, self.tokens, self.in_flight, tally)

    def add_up(self, parts: Sequence[Counts]) -> None:
        """Have what all processes counted so far."""
        self.done = sum(part.done for part in parts)
        self.failed = sum(part.failed for part in parts)
        self.tokens = sum(part.tokens for part in parts)
        self.in_flight = sum(part.in_flight for part in parts)
        if self.tally is not None:
            self.tally = Tally()
            for part in parts:
                if part.tally is not None:
                    self.tally.add(part.tally)

    def as_dict(self) -> ProgressLine | CountedLine:
        """Return it as --json-progress prints it."""
        elapsed = max(0.0, perf_counter() - self.started_at)
        whole = self.done - self.failed
        per = 1 / elapsed if elapsed > 0 and whole else None
        line: ProgressLine = {
            "phase": self.phase,
            "planned": self.planned,
            "done": self.done,
            "failed": self.failed,
            "in_flight": self.in_flight,
            "elapsed_seconds": round(elapsed, 3),
            "requests_per_second": per and round(whole * per, 3),
            "output_tokens_per_second": per and round(self.tokens * per, 3),
            "ttft_p50": round(median(self.ttfts), 6) if self.ttfts else None,
        }
        return line if self.tally is None else {**line, **self.tally.as_dict()}
