"""What a batch says while it is worked off: live on a terminal, seldom in a log."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections import Counter, deque
from collections.abc import Iterable
from time import monotonic
from typing import TextIO

from batch.asking.sending import Tally
from batch.state import BatchState

#: Seconds between two lines in a log at first and in the end.
_FIRST_S, _LAST_S = 10.0, 300.0
#: Seconds over which a rate is taken, a sample for each.
_RATE_S = 60
#: Seconds after which it is said that the server takes nothing, and said again.
_SILENCE_S, _AGAIN_S = 5.0, 60.0


def print_line(text: str) -> None:
    """Print a line for people, on stdout."""
    _write(sys.stdout, f"{text}\n")


def print_error(text: str, details: Iterable[str] = ()) -> None:
    """Print a line about what went wrong, on stderr, and those that belong to it."""
    _write(sys.stderr, "".join([f"batch: {text}\n", *(f"  {line}\n" for line in details)]))


def _write(stream: TextIO | None, text: str) -> None:
    """Write to what may be gone, full, or never have been there: that ends no batch."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()


class Rates:
    """Answers and tokens per second within the last minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque([(monotonic(), 0, 0)], _RATE_S + 1)
        self.answers = self.tokens = 0.0

    def sample(self, tally: Tally) -> None:
        """Take in how far it is now."""
        now = monotonic()
        tokens = tally.input_tokens + tally.output_tokens
        at, answered, had = self._samples[0]
        self._samples.append((now, tally.answered, tokens))
        if now > at:
            self.answers = (tally.answered - answered) / (now - at)
            self.tokens = (tokens - had) / (now - at)


class Progress:
    """Its lines."""

    def __init__(self) -> None:
        self._live = sys.stdout is not None and sys.stdout.isatty()
        self._begun = self._said = monotonic()
        self._silence_said: float | None = None

    def show(self, state: BatchState, rates: Rates, failed: Counter[str]) -> None:
        """Say how far it is, if it is time to."""
        if self._live:
            line = in_words(state, rates, failed)[: shutil.get_terminal_size().columns - 1]
            _write(sys.stdout, f"\r\x1b[K{line}")
            return
        now = monotonic()
        if now - self._said >= min(_LAST_S, max(_FIRST_S, (now - self._begun) / 10)):
            self._said = now
            print_line(in_words(state, rates, failed))

    def silence(self, server: str, why: str, lasted_s: float) -> None:
        """Say about once a minute that the server takes nothing, and since when."""
        now = monotonic()
        if lasted_s < _SILENCE_S or now - (self._silence_said or -_AGAIN_S) < _AGAIN_S:
            return
        self._silence_said = now
        self.end()
        print_error(f"{server} has taken nothing for {duration(lasted_s)} ({why}); waiting for it.")

    def end(self) -> None:
        """Leave the live line."""
        if self._live:
            _write(sys.stdout, "\r\x1b[K")


def in_words(state: BatchState, rates: Rates, failed: Counter[str]) -> str:
    """Return how far it is, as one line."""
    share = state.completed / state.total if state.total else 1.0
    parts = [f"{state.completed:,} of {state.total:,} answered ({share:.1%})"]
    parts.append(f"{state.rate:.3g}/s, {rates.tokens:,.0f} tokens/s")
    if state.eta_s is not None:
        parts.append(f"{duration(state.eta_s)} left")
    if failed:
        parts.append(f"failed: {classes(failed)}")
    return ", ".join(parts)


def classes(failed: Counter[str]) -> str:
    """Return how many failed in which way."""
    return ", ".join(f"{count:,} {code}" for code, count in failed.most_common())


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that it has."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
