"""How far a run is, for those who watch it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

from loadgen.records import Record

#: Of so many requests that ended last the median is taken.
RECENT = 1000


@dataclass
class Progress:
    """`phase` is "warmup", then "measure"; seconds count from its beginning. `planned` is None
    where the run's time is given and not its requests."""

    planned: int | None
    phase: str = "warmup"
    done: int = 0
    failed: int = 0
    tokens: int = 0
    ttfts: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    began: float = field(default_factory=perf_counter)

    def measure_from(self, start: float) -> None:
        """The measurement begins."""
        self.phase, self.began = "measure", start

    def note(self, record: Record) -> None:
        """A request has ended."""
        self.done += 1
        self.failed += record.error is not None
        self.tokens += record.answer.output_tokens or 0
        if record.error is None and record.ttft is not None:
            self.ttfts.append(record.ttft)

    def as_dict(self) -> dict[str, Any]:
        """As --json-progress prints it; seconds and requests or tokens per second, so far."""
        elapsed = max(0.0, perf_counter() - self.began)
        whole = self.done - self.failed
        per = 1 / elapsed if elapsed > 0 and whole else None
        return {
            "phase": self.phase,
            "planned": self.planned,
            "done": self.done,
            "failed": self.failed,
            "elapsed_seconds": round(elapsed, 3),
            "requests_per_second": per and round(whole * per, 3),
            "output_tokens_per_second": per and round(self.tokens * per, 3),
            "ttft_p50": round(median(self.ttfts), 6) if self.ttfts else None,
        }
