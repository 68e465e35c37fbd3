"""What /metrics shows: of the service itself, of the queries, and of the benchmarks.

Label values are few and fixed: none comes from a request. So the number of series does not grow
with use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple

from flask import Response, g, request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from client.benchmarks import Benchmarks
from client.errors import ServiceError
from client.replicas import Replicas
from client.settings import Settings
from loadgen.answers import ollama_line
from loadgen.buckets import BUCKETS, Tally
from loadgen.records import Answer

# --- queries ---


class Queries:
    """What became of the queries so far, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tally = Tally()
        self._in_flight = 0

    def ask(self) -> Asked:
        """A query begins; a context, in which a ServiceError means that it failed."""
        with self._lock:
            self._in_flight += 1
        return Asked(self)

    def end(self, answer: Answer, began: float) -> None:
        """A query has ended; one that its caller gave up has neither an end nor an error."""
        with self._lock:
            self._in_flight -= 1
            if answer.error is not None:
                self._tally.fail()
            elif answer.end is not None:
                self._tally.succeed(answer, began, answer.end)

    def read(self) -> Counted:
        """As they are now."""
        with self._lock:
            return Counted(Tally().add(self._tally.as_dict()), self._in_flight)


class Asked:
    """A query under way. It ends with its context, unless it `streams`: then with `end`."""

    def __init__(self, queries: Queries) -> None:
        self._queries: Queries | None = queries
        self._answer = Answer()
        self._began = perf_counter()
        self._streams = False

    def __enter__(self) -> Asked:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        if isinstance(error, ServiceError):
            self._answer.error = error.kind
        if error is not None or not self._streams:
            self.end()

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Its whole answer has come at once, so that nothing is known of its first token."""
        self._answer.end = perf_counter()
        self._answer.input_tokens = _count(answer.get("prompt_eval_count"))
        self._answer.output_tokens = _count(answer.get("eval_count"))

    def streams(self) -> None:
        """Its answer comes in pieces from now on."""
        self._streams = True

    def take(self, piece: bytes) -> None:
        """Lines of its answer have come just now."""
        now = perf_counter()
        for line in piece.split(b"\n"):
            if line:
                self._take(line, now)

    def _take(self, line: bytes, now: float) -> None:
        try:
            ollama_line(self._answer, line, now)
        except (ValueError, RecursionError):
            self._answer.error = "bad_json"

    def end(self) -> None:
        """It has ended; any number of times."""
        queries, self._queries = self._queries, None
        if queries is not None:
            queries.end(self._answer, self._began)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


# --- /metrics ---


class Counted(NamedTuple):
    """Requests that have ended, and how many are in flight."""

    ended: Tally
    in_flight: int


class Metrics:
    """What is counted as it happens, and, with `show`, what is looked up when somebody asks."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "orch_client_requests_total",
            "HTTP requests by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "orch_client_request_duration_seconds",
            "Time until the whole answer was sent.",
            ["route"],
            registry=self._registry,
            buckets=(0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
        )
        self.retries = Counter(
            "orch_client_retries_total",
            "Queries sent once more, to another replica, because the first gave no answer.",
            registry=self._registry,
        )

    def show(self, collector: Collector) -> None:
        """Its metrics, too."""
        self._registry.register(collector)

    def text(self) -> Response:
        """In Prometheus' text format."""
        return Response(generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)

    def watch(self, response: Response) -> Response:
        """Count a response once it has been sent to its end."""
        route = request.url_rule.rule if request.url_rule else "unknown"
        status, began = str(response.status_code), g.began

        def sent() -> None:
            self._requests.labels(route, status).inc()
            self._seconds.labels(route).observe(perf_counter() - began)

        response.call_on_close(sent)
        return response


class State(Collector):
    """What the parts of the service know by themselves."""

    def __init__(
        self, settings: Settings, queries: Queries, benchmarks: Benchmarks, replicas: Replicas
    ) -> None:
        self._settings = settings
        self._queries = queries
        self._benchmarks = benchmarks
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        """All of it, as it is now."""
        seen = self._benchmarks.seen()
        counted = {"query": self._queries.read(), "benchmark": Counted(seen.ended, seen.in_flight)}
        yield from _of_requests(counted)
        yield _gauge("orch_client_benchmark_running", "1 while a benchmark runs.", seen.running)
        yield _gauge("orch_benchmark_requests_planned", _PLANNED, seen.planned or 0)
        yield _gauge("orch_benchmark_requests_done", _DONE, seen.done)
        yield _gauge("orch_client_replicas", "Replicas of Ollama.", self._replicas.count())
        yield _gauge("orch_client_replicas_out", _OUT, self._replicas.out())
        yield from _of_output(self._settings.output)
        if self._settings.job_end is not None:
            yield _gauge("orch_job_end_timestamp_seconds", _JOB_END, self._settings.job_end)


_PLANNED = "Requests of the benchmark that runs; 0: none runs, or its time is given."
_DONE = "Of those, the ones that have ended."
_OUT = "Replicas of Ollama that get no queries because they failed, or their job has ended."
_JOB_END = "Unix time at which this job's time limit ends."


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=float(value))


def _of_output(folder: Path) -> Iterator[Metric]:
    """Nothing where the file system does not say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return
    free, size = (blocks * found.f_frsize for blocks in (found.f_bavail, found.f_blocks))
    yield _gauge("orch_output_free_bytes", "Free on the output directory's file system.", free)
    yield _gauge("orch_output_size_bytes", "Size of that file system.", size)


_LATENCIES = {
    "ttft": ("orch_time_to_first_token_seconds", "Time to first token; queries: streamed ones."),
    "itl": ("orch_inter_token_latency_seconds", "Gaps between chunks with text, likewise."),
    "e2e": ("orch_e2e_request_latency_seconds", "Time until the whole answer had come."),
}


def _of_requests(counted: Mapping[str, Counted]) -> Iterator[Metric]:
    """By source: all series are there from the beginning, also those of 0."""
    for name in BUCKETS:
        family = HistogramMetricFamily(*_LATENCIES[name], labels=["source"])
        for source, (ended, _) in counted.items():
            histogram = ended.histograms[name]
            limits = [*map(floatToGoString, histogram.limits), "+Inf"]
            buckets = list(zip(limits, accumulate(histogram.counts), strict=True))
            family.add_metric([source], buckets, histogram.sum)
        yield family
    prompt = CounterMetricFamily("orch_prompt_tokens", "Tokens of prompts.", labels=["source"])
    made = CounterMetricFamily("orch_generation_tokens", "Tokens generated.", labels=["source"])
    outcomes = CounterMetricFamily(
        "orch_requests", "Requests that have ended.", labels=["source", "outcome"]
    )
    busy = GaugeMetricFamily(
        "orch_requests_in_flight", "Requests that have not ended.", labels=["source"]
    )
    for source, (ended, in_flight) in counted.items():
        prompt.add_metric([source], ended.input_tokens)
        made.add_metric([source], ended.output_tokens)
        outcomes.add_metric([source, "ok"], ended.ok)
        outcomes.add_metric([source, "error"], ended.error)
        busy.add_metric([source], in_flight)
    yield from (prompt, made, outcomes, busy)
