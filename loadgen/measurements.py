"""What is recorded of each request, and of a run as a whole."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict

from contracts.generation import Generation

INTERRUPTED = "interrupted"


@dataclass(slots=True)
class RequestRecord:
    """One request, as it was. Times are time.perf_counter() seconds; None: it did not come so far.

    `intended`: when the schedule wanted it sent. `due`: when it could be sent at the earliest: with
    --max-concurrency a slot had to be free, and a new connection had to stand. `counts_from`: where
    its latencies begin; None: at its sending. `error` is a class of failure (connect, timeout,
    http_503, server_error, cut, bad_json, bad_http, interrupted), None for an answer that came
    whole; `message` the words to it. `replica`: URL; `retried_from`: of the replica that had it
    before. `unanswered`: it failed before any byte of an answer, so that another replica may have
    it.
    """

    index: int
    client: int | None
    intended: float
    replica: str = ""
    counts_from: float | None = None
    due: float | None = None
    retried_from: str | None = None
    unanswered: bool = False
    connect: float | None = None
    sent: float | None = None
    end: float | None = None
    http_status: int | None = None
    error: str | None = None
    message: str | None = None
    answer: Generation = field(default_factory=Generation)

    def again(self) -> None:
        """Make it ready for another replica; its times count from its first sending, or from when
        it would have been sent had there been a connection."""
        self.retried_from, self.unanswered = self.replica, False
        self.sent = self.intended if self.sent is None else self.sent
        self.end = self.http_status = self.error = self.message = self.connect = None
        self.answer = Generation()

    @property
    def started_at(self) -> float | None:
        """Where its latencies begin; None if it was never sent."""
        if self.sent is None or self.counts_from is None:
            return self.sent
        return self.counts_from

    @property
    def queue(self) -> float | None:
        """Seconds from sending to the end that the server does not account for as work."""
        if self.sent is None or self.end is None or self.retried_from is not None:
            return None
        answer = self.answer
        if answer.decode is None:
            return None
        parts = (answer.embed, answer.search, answer.load, answer.prefill, answer.decode)
        return max(0.0, self.end - self.sent - sum(part or 0.0 for part in parts))

    @property
    def dispatch_delay(self) -> float | None:
        """Seconds by which we sent it later than we could have: our own fault alone."""
        if self.sent is None or self.retried_from is not None:
            return None
        return max(0.0, self.sent - (self.intended if self.due is None else self.due))


class RequestLine(TypedDict, total=False):
    """What requests.jsonl has of a request: seconds from the common start, and None for what did
    not come so far; older runs lack some. Latencies stand under `Figure.recorded`, of which these
    are the ones that are read by name. `server`: seconds of what it says that it did."""

    request: int
    client: int | None
    replica: str
    retried: bool
    retried_from: str | None
    in_window: bool
    intended: float
    due: float
    sent: float | None
    connect: float | None
    ttft: float | None
    e2e: float | None
    gaps: list[float]
    output_tokens: int | None
    input_tokens: int | None
    finish: str | None
    server: Mapping[str, float | None]
    http_status: int | None
    error: str | None
    message: str | None


@dataclass(slots=True)
class Outage:
    """When a replica was taken out and was back (perf_counter), None: it was not; and why."""

    url: str
    begin: float
    why: str
    end: float | None = None


@dataclass
class WorkerResult:
    """What one process of the load generator saw. `lags`: how late events of known time reached
    the program; `pauses`: of its garbage collector; both in seconds. `idle_from`: perf_counter() at
    which a client, or the schedule, had nothing more to send; None: that did not come."""

    records: list[RequestRecord]
    lags: array[float]
    pauses: array[float]
    cpu_seconds: float
    idle_from: float | None
    outages: list[Outage]


@dataclass(frozen=True)
class ServerFacts:
    """What a replica says of itself; None if it does not say. `digest` of the run's model, and
    its sizes in bytes: in memory, and of that in GPU memory."""

    url: str
    version: str | None = None
    digest: str | None = None
    quantization: str | None = None
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None


@dataclass(frozen=True)
class Energy:
    """Energy of the GPUs while measured, or why it is not known. `joules_by_gpu`: of each, by what
    it is known by; `gpus_at`: the same names by host and number there; `seconds`: between the two
    readings."""

    joules: float | None = None
    source: str | None = None
    why: str | None = None
    joules_by_gpu: Mapping[str, float] = field(default_factory=dict)
    gpus_at: Mapping[tuple[str, str], str] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Measured:
    """All that a run saw. `start`: perf_counter() of the common start; `stopped`: why it ended
    before its time, None if it did not; `urls`: the replicas; `clocks`: by how much other clocks
    went differently, in seconds."""

    start: float
    parts: Sequence[WorkerResult]
    warmup_seconds: float
    stopped: str | None
    urls: Sequence[str]
    servers_before: Sequence[ServerFacts] = ()
    servers_after: Sequence[ServerFacts] = ()
    clocks: Mapping[str, float] = field(default_factory=dict)
    energy: Energy = Energy()

    @cached_property
    def records(self) -> list[RequestRecord]:
        """Of all processes, in the order of the schedule."""
        return sorted((r for part in self.parts for r in part.records), key=lambda r: r.index)
