"""What is shown of a running benchmark: a table on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpc.console import Rows
from hpc.following.answers import ProgressSoFar
from hpc.lines import LINE_EVERY_S, Lines, waited


class Progress:
    """How far a run is, as the client service tells it by `take`; `say` gets the lines of a log,
    also when nothing new is told."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lines = Lines(say, self._line, clock)
        self._seen = ProgressSoFar()
        self._done_at = clock()

    def take(self, progress: ProgressSoFar) -> None:
        """Take in what is known now, and say it when a line is due."""
        if progress.done != self._seen.done:
            self._done_at = self._clock()
        self._seen = progress
        self.tick()

    def tick(self) -> None:
        """Say it when a line is due."""
        self._lines.tick()

    def rows(self) -> Rows:
        """A table of it."""
        cells = [self._done(), str(self._seen.failed), *self._figures()]
        elapsed = self._seen.elapsed_seconds
        cells.append("-" if elapsed is None else f"{elapsed:.0f} s")
        return [["requests done", "failed", "rate", "TTFT p50", "output", "elapsed"], cells]

    def _line(self) -> str:
        rate, ttft, tokens = self._figures()
        flying = self._seen.in_flight
        parts = [f"{self._done()} requests done", f"{self._seen.failed} failed"]
        parts += [] if flying is None else [f"{flying} in flight"]
        if self._clock() - self._done_at >= LINE_EVERY_S:
            parts.append(f"none has ended for {waited(self._done_at, self._clock())}")
        warming = "warming up: " if self._seen.phase in ("start", "warmup") else ""
        return f"{warming}{', '.join(parts)}; so far {rate}, TTFT p50 {ttft}, {tokens}"

    def _done(self) -> str:
        """Without a number of requests to come when the run has only a time."""
        planned = self._seen.planned
        return f"{self._seen.done}{'' if planned is None else f' of {planned}'}"

    def _figures(self) -> list[str]:
        rate, ttft = self._seen.requests_per_second, self._seen.ttft_p50
        tokens = self._seen.output_tokens_per_second
        return [
            "-" if rate is None else f"{rate:.1f} requests/s",
            "-" if ttft is None else f"{ttft:.4g} s",
            "-" if tokens is None else f"{tokens:.1f} tokens/s",
        ]
