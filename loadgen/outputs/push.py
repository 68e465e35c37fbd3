"""A run's figures for the Pushgateway: one push, once the run is over.

Its group is job="benchmark", the deployment (if the run knows of one) and the run; so it stays
until it is deleted, and a dashboard can show runs beside each other.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, push_to_gateway
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts.figures import MAIN
from contracts.summary import Summary
from engines.http.asking import FinalResponse, why_unreadable
from engines.http.headers import Headers
from loadgen.outputs.prometheus import deployment_of, wall_window

JOB = "benchmark"
TIMEOUT_S = 3.0
STATS = ("mean", "p50", "p95", "p99")


def push(url: str, run: str, summary: Summary, login: Headers = ()) -> str | None:
    """Tell the Pushgateway at `url`, which asks for `login`; None, or a sentence on why it has not
    been told."""
    registry = CollectorRegistry()
    registry.register(_Figures(summary))
    deployment = deployment_of(summary)
    group = {"run": run, **({"deployment": deployment} if deployment else {})}
    try:
        push_to_gateway(
            url,
            job=JOB,
            registry=registry,
            grouping_key=group,
            timeout=TIMEOUT_S,
            handler=partial(_send, login=login),
        )
    except (OSError, http.client.HTTPException) as error:
        return f"the Pushgateway at {url} has not been told of this run: {error}."
    return None


def _send(
    url: str,
    method: str,
    timeout: float | None,
    headers: Sequence[tuple[str, str]],
    data: bytes,
    login: Headers = (),
) -> Callable[[], None]:
    """As prometheus_client wants it; its own way would be through http_proxy."""

    def send() -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
        connection.response_class = FinalResponse
        try:
            connection.request(method, parts.path, data, dict([*headers, *login]))
            response = connection.getresponse()
            words = response.read(300).decode("utf-8", "replace").strip()
        finally:
            connection.close()
        if response.status >= 300:
            words = why_unreadable(response) or words
            raise OSError(f"it answered {response.status} {words}".rstrip())

    return send


class _Figures(Collector):
    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def collect(self) -> Iterator[Metric]:
        """Without those that the run does not have."""
        summary, (start, end) = self._summary, wall_window(self._summary)
        rates = summary.throughput
        for name, words, value in (
            ("start_timestamp_seconds", "Unix time of the first request.", start),
            ("end_timestamp_seconds", "Unix time of the last end.", end),
            ("valid", "1: nothing speaks against the figures.", summary.validity.valid),
            ("requests_per_second", "Requests that came whole.", rates.requests_per_second),
            ("output_tokens_per_second", "Of all.", rates.output_tokens_per_second),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"orch_benchmark_{name}", words, value=float(value))
        yield self._requests()
        yield self._latencies()

    def _requests(self) -> Metric:
        family = GaugeMetricFamily("orch_benchmark_requests", "Requests.", labels=["outcome"])
        family.add_metric(["ok"], self._summary.requests.succeeded)
        family.add_metric(["error"], self._summary.requests.failed)
        return family

    def _latencies(self) -> Metric:
        family = GaugeMetricFamily(
            "orch_benchmark_latency_seconds", "Latencies.", labels=["figure", "stat"]
        )
        for key in [figure.key for figure in MAIN]:
            for stat in STATS:
                value = self._summary.latency(key).at(stat)
                if value is not None:
                    family.add_metric([key, stat], value)
        return family
