"""The latencies of a request: each is said here once, and shown wherever there are figures.

FIGURES drives summary.json, requests.jsonl and requests.csv, the tables and plots, comparisons,
goodput, Prometheus, /benchmark and what orch prints. So a new latency is one more Figure in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from contracts.generation import Generation

if TYPE_CHECKING:
    from contracts.summary import RequestCounts


class Request(Protocol):
    """What latencies are made of: what its stream said, where they begin, and its end, whole or
    not. Times are time.perf_counter() seconds; None: that did not come."""

    @property
    def answer(self) -> Generation: ...

    @property
    def started_at(self) -> float | None: ...

    @property
    def end(self) -> float | None: ...


@dataclass(frozen=True)
class Live:
    """The histogram of a figure while a run goes on: its name, what /metrics says of it, and its
    upper limits in seconds, included in their bucket; above the last one there is one more."""

    metric: str
    about: str
    buckets: tuple[float, ...]


@dataclass(frozen=True)
class Figure:
    """A latency, of which less is better; in seconds wherever programs read it.

    `of`: a request's own value, None if it has none. `each`: if a request has many, all of
    them; then `of` is their mean. `requires`: the count of the summary's requests without which it
    says no more than others do: it is shown only then, and neither compared nor asked for. `drawn`:
    whether it is among those that one looks for first, and has plots. `of_point`: what the
    terminal's line for a point of a sweep has of it; `compared`: what a comparison has.
    """

    key: str
    label: str
    name: str
    definition: str
    of: Callable[[Request], float | None]
    each: Callable[[Request], Sequence[float]] | None = None
    requires: str = ""
    drawn: bool = True
    of_point: Sequence[str] = ("p50",)
    compared: Sequence[str] = ("mean", "p50", "p99")
    live: Live | None = None

    @property
    def recorded(self) -> str:
        """Return its key in requests.jsonl."""
        return self.key if self.each is None else "gaps"

    def values(self, request: Request) -> Sequence[float]:
        """Return all that a request has of it."""
        if self.each is not None:
            return self.each(request)
        value = self.of(request)
        return () if value is None else (value,)

    def shown(self, requests: RequestCounts) -> bool:
        """Return whether it says anything of a run with these counts."""
        return not self.requires or bool(getattr(requests, self.requires))


# --- how they are computed ---


def ttft(request: Request) -> float | None:
    """Return the seconds up to the first text."""
    chunks = request.answer.chunks
    return None if request.started_at is None or not chunks else chunks[0] - request.started_at


def ttfo(request: Request) -> float | None:
    """Return the seconds up to the first text of the answer itself; None if all is thinking."""
    spoke = request.answer.spoke
    return None if request.started_at is None or spoke is None else spoke - request.started_at


def gaps(request: Request) -> list[float]:
    """Return the seconds between successive chunks with text."""
    return [after - before for before, after in pairwise(request.answer.chunks)]


def mean_gap(request: Request) -> float:
    """Return the mean of the gaps; 0 if there are none, so that no limit is exceeded."""
    found = gaps(request)
    return sum(found) / len(found) if found else 0.0


def tpot(request: Request) -> float | None:
    """Return the seconds per output token after the first."""
    first, whole, tokens = ttft(request), e2e(request), request.answer.output_tokens
    if first is None or whole is None or tokens is None or tokens < 2:
        return None
    return (whole - first) / (tokens - 1)


def e2e(request: Request) -> float | None:
    """Return the seconds up to the end, whole or not."""
    if request.started_at is None or request.end is None:
        return None
    return request.end - request.started_at


def normalised(request: Request) -> float | None:
    """Return the seconds up to the end per output token; None if there are none."""
    whole, tokens = e2e(request), request.answer.output_tokens
    return whole / tokens if whole is not None and tokens else None


# --- the table ---

# The limits are those of vLLM for the same notions, so that one query fits both (vLLM,
# vllm/v1/metrics/loggers.py: `time_to_first_token_seconds`, `inter_token_latency_seconds`, before
# that `time_per_output_token_seconds`, and `e2e_request_latency_seconds`).
# fmt: off
_FIRST = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)
_PER_TOKEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0,
)
_WHOLE = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
)
# fmt: on

#: In the order in which they are shown.
FIGURES = (
    Figure(
        "ttft", "TTFT", "Time to first token",
        "to the first chunk with text, from the sending (closed loop; connections are opened "
        "beforehand, and connect time is recorded apart) or from the intended sending (open loop); "
        "where connections are not reused, from the begin of connecting",
        ttft, of_point=("p50", "p99"),
        live=Live("orch_time_to_first_token_seconds",
                  "Time to first token; queries: streamed ones.", _FIRST),
    ),
    Figure(
        "ttfo", "TTFO", "Time to first output",
        "to the first chunk with text of the answer itself, from where ttft counts; ttft also "
        "takes text of what the model thinks before it (aiperf's time to first output token)",
        ttfo, requires="thinking", drawn=False,
    ),
    Figure(
        "itl", "ITL", "Inter-token latency",
        "gaps between successive chunks with text (a chunk may carry several tokens); chunks "
        "that arrive in one segment have a gap of 0",
        mean_gap, each=gaps, of_point=(), compared=("mean", "p99"),
        live=Live("orch_inter_token_latency_seconds",
                  "Gaps between chunks with text, likewise.", _PER_TOKEN),
    ),
    Figure(
        "tpot", "TPOT", "Time per output token",
        "(e2e - ttft) / (output tokens - 1), by the server's own count of tokens",
        tpot, drawn=False, compared=("mean",),
    ),
    Figure(
        "e2e", "E2E", "End to end",
        "to the arrival of the final chunk, from where ttft counts",
        e2e,
        live=Live("orch_e2e_request_latency_seconds",
                  "Time until the whole answer had come.", _WHOLE),
    ),
    Figure(
        "normalised", "NORM", "Normalised latency",
        "e2e / output tokens, by the server's own count of tokens: what a token costs, with queue "
        "and prefill (Kwon et al., SOSP 2023; vLLM)",
        normalised,
        live=Live("orch_normalised_latency_seconds",
                  "Time until the whole answer had come, by its tokens.", _PER_TOKEN),
    ),
)  # fmt: skip
#: Those with one value a request; those that every run has; those with plots, and of these again
#: those with one value.
SINGLE = tuple(figure for figure in FIGURES if figure.each is None)
MAIN = tuple(figure for figure in FIGURES if not figure.requires)
DRAWN = tuple(figure for figure in FIGURES if figure.drawn)
COURSES = tuple(figure for figure in SINGLE if figure.drawn)
BY_KEY: Mapping[str, Figure] = {figure.key: figure for figure in FIGURES}
