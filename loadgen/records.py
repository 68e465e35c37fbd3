"""What is recorded of each request, and of a run as a whole."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Answer:
    """What the stream of one request said. Times are time.perf_counter() seconds.

    `chunks`: arrival of each chunk with text. `end`: arrival of the final chunk. Counts and
    durations are the server's own, durations in seconds; None where it did not say. `embed` and
    `search` are what retrieval took before the model was asked.

    Of lines that are read together all but the last came earlier than stamped, by up to as much as
    we were late to read them. `unsure` is the number of chunks that came so, `unsure_first` whether
    the first one did; `unsure_end`: the final chunk has no stamp of the kernel.
    """

    chunks: array[float] = field(default_factory=lambda: array("d"))
    end: float | None = None
    output_tokens: int | None = None
    input_tokens: int | None = None
    embed: float | None = None
    search: float | None = None
    load: float | None = None
    prefill: float | None = None
    decode: float | None = None
    total: float | None = None
    error: str | None = None
    unsure: int = 0
    unsure_first: bool = False
    unsure_end: bool = False

    def not_sure(self, before: int) -> None:
        """The chunks that were added since there were `before` are not sure."""
        number = len(self.chunks) - before
        self.unsure += number
        self.unsure_first = self.unsure_first or (before == 0 and number > 0)


@dataclass(slots=True)
class Record:
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
    answer: Answer = field(default_factory=Answer)

    def again(self) -> None:
        """Make it ready for another replica; its times count from its first sending, or from when
        it would have been sent had there been a connection."""
        self.retried_from, self.unanswered = self.replica, False
        self.sent = self.intended if self.sent is None else self.sent
        self.end = self.http_status = self.error = self.message = self.connect = None
        self.answer = Answer()

    @property
    def began(self) -> float | None:
        """Where its latencies begin; None where it was never sent."""
        if self.sent is None or self.counts_from is None:
            return self.sent
        return self.counts_from

    @property
    def ttft(self) -> float | None:
        """Seconds up to the first text."""
        if self.began is None or not self.answer.chunks:
            return None
        return self.answer.chunks[0] - self.began

    @property
    def e2e(self) -> float | None:
        """Seconds up to the end, whole or not."""
        return None if self.began is None or self.end is None else self.end - self.began

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


@dataclass(slots=True)
class Outage:
    """When a replica was taken out and was back (perf_counter), None: it was not; and why."""

    url: str
    begin: float
    why: str
    end: float | None = None


@dataclass
class Part:
    """What one process of the load generator saw. `lags`: how late events of known time reached
    the program; `pauses`: of its garbage collector; both in seconds. `idle_from`: perf_counter() at
    which a client, or the schedule, had nothing more to send; None: that did not come."""

    records: list[Record]
    lags: array[float]
    pauses: array[float]
    cpu_seconds: float
    idle_from: float | None
    outages: list[Outage]


@dataclass(frozen=True)
class ServerFacts:
    """What a replica says of itself; None where it does not say. `digest` of the run's model, and
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
    """Energy of the GPUs while measured, or why it is not known."""

    joules: float | None = None
    source: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class Measured:
    """All that a run saw. `start`: perf_counter() of the common start; `stopped`: why it ended
    before its time, None where it did not; `urls`: the replicas; `clocks`: by how much other clocks
    went differently, in seconds."""

    start: float
    parts: Sequence[Part]
    warmup_seconds: float
    stopped: str | None
    urls: Sequence[str]
    servers_before: Sequence[ServerFacts] = ()
    servers_after: Sequence[ServerFacts] = ()
    clocks: Mapping[str, float] = field(default_factory=dict)
    energy: Energy = Energy()

    @cached_property
    def records(self) -> list[Record]:
        """Of all processes, in the order of the schedule."""
        return sorted((r for part in self.parts for r in part.records), key=lambda r: r.index)
