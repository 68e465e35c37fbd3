"""What /metrics shows: of the service itself, of the queries, and of the benchmarks.

Label values are few and fixed: none comes from a request. So the number of series does not grow
with use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import NamedTuple, Protocol

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
from client.errors import RequestError
from client.settings import ServiceSettings
from contracts.figures import FIGURES
from contracts.generation import Generation
from contracts.histograms import Tally
from contracts.json_object import JsonObject
from engines.ollama import ollama_line, read_counts

# --- queries ---


class Queries:
    """What became of the queries so far, for any thread."""

    def __init__(
        self,
        user: Callable[[], str] = lambda: "",
        used: Callable[[str, int, int], None] = lambda user, prompt, completion: None,
        answered: Callable[[Generation, float], None] = lambda answer, started_at: None,
    ) -> None:
        """`user`: whose query it is that begins; `used` is told of the tokens of its answer, and
        `answered` of each whole answer and when it was asked for."""
        self._user, self._used, self._answered = user, used, answered
        self._lock = threading.Lock()
        self._tally = Tally()
        self._in_flight = 0

    def ask(self) -> Asked:
        """Count a query that begins; return a context, which a RequestError ends as failed."""
        with self._lock:
            self._in_flight += 1
        return Asked(self, self._user())

    def end(self, answer: Generation, started_at: float, user: str) -> None:
        """Count a query as ended; one that its caller gave up has neither an end nor an error."""
        if user and answer.end is not None:
            self._used(user, answer.input_tokens or 0, answer.output_tokens or 0)
        if answer.error is None and answer.end is not None:
            self._answered(answer, started_at)
        with self._lock:
            self._in_flight -= 1
            if answer.error is not None:
                self._tally.fail()
            elif answer.end is not None:
                self._tally.succeed(answer, started_at, answer.end)

    def read(self) -> Counted:
        """Return the counts as they are now."""
        with self._lock:
            return Counted(Tally().add(self._tally.as_dict()), self._in_flight)


class Asked:
    """A query under way. It ends with its context, unless it `streams`: then with `end`."""

    def __init__(self, queries: Queries, user: str) -> None:
        self._queries: Queries | None = queries
        self._user = user
        self._answer = Generation()
        self._started_at = perf_counter()
        self._streams = False

    def __enter__(self) -> Asked:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        if isinstance(error, RequestError):
            self._answer.error = error.kind
        if error is not None or not self._streams:
            self.end()

    def answered(self, answer: JsonObject) -> None:
        """Take its whole answer, which came at once: nothing is known of its first token."""
        self._answer.end = perf_counter()
        read_counts(self._answer, answer)

    def streams(self) -> None:
        """Expect its answer in pieces from now on."""
        self._streams = True

    def read(self, piece: bytes) -> None:
        """Read lines of its answer that have come just now."""
        now = perf_counter()
        for line in piece.split(b"\n"):
            if line:
                self._read_line(line, now)

    def _read_line(self, line: bytes, now: float) -> None:
        try:
            ollama_line(self._answer, line, now)
        except (ValueError, RecursionError):
            self._answer.error = "bad_json"

    def end(self) -> None:
        """End it; any number of times."""
        queries, self._queries = self._queries, None
        if queries is not None:
            queries.end(self._answer, self._started_at, self._user)


# --- /metrics ---


class Counted(NamedTuple):
    """Requests that have ended, and how many are in flight."""

    finished: Tally
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
            "Queries sent more than once: a replica gave no answer, or had no model.",
            registry=self._registry,
        )

    def show(self, collector: Collector) -> None:
        """Show the metrics of a collector, too."""
        self._registry.register(collector)

    def text(self) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)

    def watch(self, response: Response) -> Response:
        """Count a response once it has been sent to its end."""
        route = request.url_rule.rule if request.url_rule else "unknown"
        status, started_at = str(response.status_code), g.started_at

        def sent() -> None:
            self._requests.labels(route, status).inc()
            self._seconds.labels(route).observe(perf_counter() - started_at)

        response.call_on_close(sent)
        return response


class Counts(Protocol):
    """Who answers: how many there are, and how many of them would not."""

    def count(self) -> int:
        """Return how many there are."""

    def ejected(self) -> int:
        """Return how many would not answer."""

    def check_soon(self) -> None:
        """Look at them beside what goes on, for the next time."""


class State(Collector):
    """What the parts of the service know by themselves."""

    def __init__(
        self,
        settings: ServiceSettings,
        queries: Queries,
        benchmarks: Benchmarks,
        replicas: Counts,
    ) -> None:
        self._settings = settings
        self._queries = queries
        self._benchmarks = benchmarks
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        """Yield all of it, as it is now."""
        totals = self._benchmarks.totals()
        runs = Counted(totals.finished, totals.in_flight)
        yield from _of_requests({"query": self._queries.read(), "benchmark": runs})
        yield _gauge("orch_client_benchmark_running", "1 while a benchmark runs.", totals.running)
        yield _gauge("orch_benchmark_requests_planned", _PLANNED, totals.planned or 0)
        yield _gauge("orch_benchmark_requests_done", _DONE, totals.done)
        yield _gauge("orch_client_replicas", "Replicas of Ollama.", self._replicas.count())
        yield _gauge("orch_client_replicas_out", _OUT, self._replicas.ejected())
        yield from _of_output(self._settings.output)
        if self._settings.job_end is not None:
            yield _gauge("orch_job_end_timestamp_seconds", _JOB_END, self._settings.job_end)
        self._replicas.check_soon()  # for the next scrape: this one waits for nobody


_PLANNED = "Requests of the benchmark that runs; 0: none runs, or its time is given."
_DONE = "Of those, the ones that have ended."
_OUT = (
    "Replicas of Ollama that would not answer a query, and get none: they failed, do not have the \
model, or their job has ended."
)
_JOB_END = "Unix time at which this job's time limit ends."


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=float(value))


def _of_output(folder: Path) -> Iterator[Metric]:
    """Nothing if the file system does not say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return
    free, size = (blocks * found.f_frsize for blocks in (found.f_bavail, found.f_blocks))
    yield _gauge("orch_output_free_bytes", "Free on the output directory's file system.", free)
    yield _gauge("orch_output_size_bytes", "Size of that file system.", size)


def _of_requests(counted: Mapping[str, Counted]) -> Iterator[Metric]:
    """By source: all series are there from the beginning, also those of 0."""
    for key, live in [(figure.key, figure.live) for figure in FIGURES if figure.live]:
        family = HistogramMetricFamily(live.metric, live.about, labels=["source"])
        for source, (finished, _) in counted.items():
            histogram = finished.histograms[key]
            bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            family.add_metric([source], buckets, histogram.sum)
        yield family
    prompt = CounterMetricFamily("orch_prompt_tokens", "Tokens of prompts.", labels=["source"])
    output = CounterMetricFamily("orch_generation_tokens", "Tokens generated.", labels=["source"])
    outcomes = CounterMetricFamily(
        "orch_requests", "Requests that have ended.", labels=["source", "outcome"]
    )
    busy = GaugeMetricFamily(
        "orch_requests_in_flight", "Requests that have not ended.", labels=["source"]
    )
    for source, (finished, in_flight) in counted.items():
        prompt.add_metric([source], finished.input_tokens)
        output.add_metric([source], finished.output_tokens)
        outcomes.add_metric([source, "ok"], finished.ok)
        outcomes.add_metric([source, "error"], finished.error)
        busy.add_metric([source], in_flight)
    yield from (prompt, output, outcomes, busy)
