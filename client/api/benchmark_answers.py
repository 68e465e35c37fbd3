"""The answers of /benchmark: what each of their keys means."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, create_model

from client.api.answers import Absent, Count, ErrorWords, Open, Seconds, Text, one_of
from contracts.figures import MAIN
from contracts.json_object import JsonObject
from loadgen.load import child_process

_RUNNING, _DONE = child_process.RUNNING, child_process.DONE
_FAILED, _CANCELLED = child_process.FAILED, child_process.CANCELLED
_STATE = "`running`, `done`, `failed`, or `cancelled`."
_ID = "Name of the run; its files are in `benchmarks/ID/` of the output directory."


class Begun(Open):
    """A benchmark that nobody waits for."""

    id: Text = Field(description=_ID)
    state: Annotated[Text, one_of(_RUNNING, _DONE, _FAILED, _CANCELLED)] = Field(description=_STATE)


class Progress(Open):
    """How far a benchmark is."""

    phase: Text = Field(description="`start`, `warmup`, or `measure`.")
    planned: Count | None = Field(description="Requests in all; null if a time was asked for.")
    done: Count = Field(description="Requests that have ended, with those that failed.")
    failed: Count = Field(description="Requests that failed.")
    in_flight: Count = Field(description="Requests that were sent and have not ended.")
    elapsed_seconds: Seconds = Field(description="Since the start.")
    requests_per_second: Seconds | None = Field(description="So far.")
    ttft_p50: Seconds | None = Field(description="Median TTFT so far, in seconds.")
    output_tokens_per_second: Seconds | None = Field(description="Of all clients together, so far.")


class BenchmarkState(Open):
    """A benchmark that goes on, that failed, or that was cancelled."""

    id: Text = Field(description=_ID)
    state: Annotated[Text, one_of(_RUNNING, _FAILED, _CANCELLED)] = Field(description=_STATE)
    progress: Progress | None = Field(description="How far it is.")
    error: ErrorWords | Absent = Field(None, description="Why it failed.")


def _percentile(percent: int) -> Any:
    return Field(description=f"Percentile {percent}; null if the values are too few.")


class Distribution(Open):
    """How a figure is spread over the requests; null if there are none."""

    mean: Seconds | None = Field(description="Mean.")
    std: Seconds | None = Field(description="Standard deviation.")
    min: Seconds | None = Field(description="Least value.")
    p50: Seconds | None = _percentile(50)
    p90: Seconds | None = _percentile(90)
    p95: Seconds | None = _percentile(95)
    p99: Seconds | None = _percentile(99)
    max: Seconds | None = Field(description="Greatest value.")
    n: Count = Field(description="How many values.")


_LATENCIES: dict[str, Any] = {
    figure.key: (Distribution, Field(description=f"{figure.name} ({figure.label})."))
    for figure in MAIN
}
Latencies = create_model(
    "Latencies", __base__=Open, __doc__="How long requests took, in seconds.", **_LATENCIES
)


class Validity(Open):
    """Whether the figures may be used."""

    valid: bool = Field(description="Whether they may.")
    reasons: list[Text] = Field(description="Why not.")


class BenchmarkResult(Open):
    """A benchmark that has ended."""

    id: Text = Field(description=_ID)
    state: Annotated[Text, one_of(_DONE, _CANCELLED)] = Field(description=_STATE)
    progress: Progress = Field(description="How far it is.")
    n_clients: Count | None = Field(description="As asked for; null at a rate.")
    n_requests_per_client: Count | None = Field(
        description="As asked for; null at a rate or for a time."
    )
    total_queries: Count = Field(description="Requests that were sent, without the warm-up.")
    successful: Count = Field(description="Those that were answered whole.")
    failed: Count = Field(description="Those that were not.")
    retried: Count = Field(
        description="Those that were sent once more, to another replica or on a new connection."
    )
    total_time: Seconds = Field(
        description="Seconds from the start to the end of the last request."
    )
    avg_request_time: Seconds | None = Field(
        description="Mean E2E latency of those that succeeded, in seconds."
    )
    queries_per_second: Seconds | None = Field(description="successful / total_time.")
    results: list[JsonObject] = Field(description="A line for each request.")
    latency_seconds: Latencies = Field(
        description="How long requests took; also `ttfo`, to the first text of the answer itself, "
        "if the model thinks before it."
    )
    throughput: JsonObject = Field(
        description="Requests and tokens per second, of all clients together."
    )
    validity: Validity = Field(description="Whether the figures may be used, and in words why not.")
    provenance: JsonObject = Field(description="Where the figures come from.")
