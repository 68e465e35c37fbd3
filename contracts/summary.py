"""What a benchmark has found, as summary.json has it: the names of fields are its keys.

None stands for what is not known, which older runs say of what they did not record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import TypedDict  # pydantic reads summaries by it

from contracts.json_object import JsonObject

#: Of each distribution.
PERCENTILES = (50, 90, 95, 99)
#: What a server does one after another for an answer, with the names of contracts/generation.py.
STEPS = ("embed", "search", "load", "prefill", "decode")


@dataclass(frozen=True)
class Distribution:
    """How values spread; percentiles that they do not support are None."""

    mean: float | None = None
    std: float | None = None
    min: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    n: int | None = 0

    def at(self, name: str) -> float | None:
        """Return one of them, by its name."""
        value: float | None = getattr(self, name)
        return value


#: Some of a distribution, by name.
Some = Mapping[str, float | None]


@dataclass(frozen=True)
class RequestCounts:
    """How many requests; `finished` by the server's reason, `errors` by class."""

    planned: int
    started: int
    succeeded: int
    failed: int
    interrupted: int = 0
    retried: int | None = None
    without_tokens: int | None = None
    thinking: int | None = None
    thinking_alone: int | None = None
    out_of_room: int | None = None
    finished: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    counted: int | None = None

    @property
    def completed(self) -> int:
        """Those that ended by themselves."""
        return self.succeeded + self.failed


#: When a replica was out, in seconds from the common start, `to` None: to the end; and `why`.
OutageTimes = TypedDict("OutageTimes", {"from": float, "to": "float | None", "why": str})


@dataclass(frozen=True)
class ReplicaEnergy:
    """What the GPUs of one replica have used while measured, and `joules_by_gpu` each of them."""

    joules: float
    watts: float
    joules_per_output_token: float | None
    joules_by_gpu: Mapping[str, float]


@dataclass(frozen=True)
class ReplicaShare:
    """What one replica did. `energy`: None if it has no GPUs of its own, or nobody measures
    them."""

    url: str
    requests: int
    succeeded: int
    failed: int
    retried_away: int
    output_tokens: int
    outages: Sequence[OutageTimes] = ()
    energy: ReplicaEnergy | None = None


class LoadAsked(TypedDict, total=False):
    """What load was put on the servers, with all of LoadSpec.extras that were given, too."""

    mode: Literal["open", "closed"]
    clients: int | None
    rate: float | None
    arrivals: str | None
    max_concurrency: int | None
    requests: int | None
    duration_seconds: float | None
    num_predict: int | None
    through: str | None
    processes: int
    reuse_connections: bool


@dataclass(frozen=True)
class Seconds:
    """The times of a run; `measured`: the window that counts."""

    measured: float
    total: float | None = None
    ramp_up: float | None = None
    drain: float | None = None
    warmup: float = 0.0

    @property
    def whole(self) -> float:
        """From the common start to the last end."""
        return self.measured if self.total is None else self.total


@dataclass(frozen=True)
class Concurrency:
    """Requests in flight."""

    asked: int | None
    mean: float | None
    max: int


@dataclass(frozen=True)
class Throughput:
    """Of all clients together."""

    requests_per_second: float | None = None
    output_tokens_per_second: float | None = None
    input_tokens_per_second: float | None = None


@dataclass(frozen=True)
class Goodput:
    """Requests within the limits of `slo`, seconds by figure."""

    slo: Mapping[str, float]
    share: float | None
    requests_per_second: float | None


@dataclass(frozen=True)
class EnergyUsed:
    """Energy of the GPUs while measured, or why it is not known."""

    joules: float | None = None
    joules_per_output_token: float | None = None
    source: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class PromptsUsed:
    """What the prompts were."""

    source: str | None = None
    distinct: int | None = None
    input_tokens_asked: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class Client:
    """The load generator itself; `unsure`: shares of the arrivals."""

    processes: int | None = None
    cpu_seconds: float | None = None
    cpu_share: float | None = None
    dispatch_delay_seconds: Some = field(default_factory=dict)
    loop_lag_seconds: Some = field(default_factory=dict)
    gc_pause_seconds: Some = field(default_factory=dict)
    unsure: Some = field(default_factory=dict)


@dataclass(frozen=True)
class Validity:
    """The verdict: `reasons` with their `codes`, and `notes` for the reader."""

    valid: bool = False
    reasons: Sequence[str] = ()
    codes: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All of a run. `load`: what was asked for; `withheld`: figures that were taken out;
    `provenance`: all that is known of its circumstances, as they say it themselves."""

    partial: bool = False
    stopped: str | None = None
    load: LoadAsked = field(default_factory=LoadAsked)
    requests: RequestCounts
    replicas: Sequence[ReplicaShare]
    seconds: Seconds
    concurrency: Concurrency
    latency_seconds: Mapping[str, Distribution]
    throughput: Throughput
    per_request: Mapping[str, Distribution] = field(default_factory=dict)
    goodput: Goodput | None = None
    server_seconds: Mapping[str, Distribution] = field(default_factory=dict)
    server_rates: Mapping[str, Distribution] = field(default_factory=dict)
    energy: EnergyUsed = EnergyUsed()
    connect_seconds: Distribution = Distribution()
    prompts: PromptsUsed = PromptsUsed()
    client: Client = Client()
    definitions: Mapping[str, str] = field(default_factory=dict)
    withheld: Sequence[str] = ()
    validity: Validity = Validity()
    provenance: JsonObject = field(default_factory=dict)

    @property
    def open_loop(self) -> bool:
        """Whether requests came at a rate of their own."""
        return self.load.get("mode") == "open"

    @property
    def pace(self) -> Distribution:
        """Output tokens per second of single requests."""
        return self.per_request.get("output_tokens_per_second", Distribution())

    def latency(self, key: str) -> Distribution:
        """Return a latency; that of nothing if the run did not record it."""
        return self.latency_seconds.get(key, Distribution())


@dataclass(frozen=True)
class SweepPoint:
    """A run of a sweep: clients or requests per second, the folder below the sweep's."""

    value: float
    folder: str
    summary: Summary


@dataclass(frozen=True)
class SweepPoints:
    """The runs of a sweep; `by`: "clients" or "rate"."""

    by: str
    points: Sequence[SweepPoint]


@dataclass(frozen=True)
class Sweep:
    """All of a sweep."""

    sweep: SweepPoints
    validity: Validity = Validity()
    provenance: JsonObject = field(default_factory=dict)
