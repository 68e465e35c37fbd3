"""What is shown of a running benchmark: a table on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hpc.console import Rows

#: Between two lines of a log: not sooner, and no later while the run goes on.
LINE_AFTER_S, LINE_AT_LATEST_S = 10.0, 60.0


class Progress:
    """How far a run is, as the client service tells it by `take`; `say` gets the lines of a log."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._told_at = clock()
        self._told_tenths = 0
        self._seen: Mapping[str, Any] = {}

    def take(self, progress: Mapping[str, Any]) -> None:
        """Take in what is known now, and say it where a line is due."""
        self._seen = progress
        waited, tenths = self._clock() - self._told_at, self._tenths()
        due = waited >= LINE_AFTER_S and tenths > self._told_tenths
        if due or waited >= LINE_AT_LATEST_S:
            self._told_at, self._told_tenths = self._clock(), tenths
            self._say(self._line())

    def rows(self) -> Rows:
        """A table of it."""
        cells = [f"{self._done()}", f"{self._seen.get('failed', 0)}", *self._figures()]
        elapsed = self._seen.get("elapsed_seconds")
        cells.append("-" if elapsed is None else f"{elapsed:.0f} s")
        return [["requests done", "failed", "rate", "TTFT p50", "output", "elapsed"], cells]

    def _line(self) -> str:
        rate, ttft, tokens = self._figures()
        return (
            f"{self._done()} requests done, {self._seen.get('failed', 0)} failed; so far {rate}, "
            f"TTFT p50 {ttft}, {tokens}"
        )

    def _done(self) -> str:
        """Without a number of requests to come where the run has only a time."""
        planned = self._seen.get("planned")
        return f"{self._seen.get('done', 0)}{'' if planned is None else f' of {planned}'}"

    def _figures(self) -> list[str]:
        names = ("requests_per_second", "ttft_p50", "output_tokens_per_second")
        rate, ttft, tokens = (self._seen.get(name) for name in names)
        return [
            "-" if rate is None else f"{rate:.1f} requests/s",
            "-" if ttft is None else f"{ttft:.4g} s",
            "-" if tokens is None else f"{tokens:.1f} tokens/s",
        ]

    def _tenths(self) -> int:
        planned = self._seen.get("planned")
        return 10 * int(self._seen.get("done", 0)) // planned if planned else 0
