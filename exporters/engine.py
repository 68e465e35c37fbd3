"""What an engine that has metrics of its own says in them, passed on at each scrape: it asks for a
token, which Prometheus does not have."""

from __future__ import annotations

import argparse
import http.client
from collections.abc import Iterable
from time import perf_counter
from urllib.parse import urlsplit

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from engines.http.asking import http_client
from engines.http.headers import Headers
from exporters.ollama import TIMEOUT_S, Server, gauge, job_metrics, server_at


def metrics_at(url: str) -> tuple[Server, str]:
    """Return server and path of `http://HOST:PORT/PATH`, or of https. Raises
    argparse.ArgumentTypeError."""
    path = urlsplit(url).path
    if path in ("", "/"):
        raise argparse.ArgumentTypeError(f"{url!r} is not http://HOST:PORT/PATH")
    return server_at(url.removesuffix(path)), path


class EngineCollector(Collector):
    """The metrics of one engine at `server`, and what its job knows of itself, as
    `OllamaCollector` has it."""

    def __init__(
        self,
        server: Server,
        path: str,
        gpus: int = 0,
        job_end: float | None = None,
        headers: Headers = (),
        ca: str | None = None,
    ) -> None:
        self._server = server
        self._path = path
        self._gpus = gpus
        self._job_end = job_end
        self._headers = headers
        self._ca = ca

    def collect(self) -> Iterable[Metric]:
        """Ask it now."""
        started_at = perf_counter()
        found = self._ask()
        seconds = perf_counter() - started_at
        yield gauge("engine_up", "1 if the engine answered, else 0.", found is not None)
        yield gauge("engine_scrape_duration_seconds", "Time that it took to answer.", seconds)
        yield from job_metrics(self._gpus, self._job_end)
        yield from found or ()

    def _ask(self) -> list[Metric] | None:
        """None if it does not answer, or answers something else."""
        connection = http_client(*self._server, TIMEOUT_S, self._ca)
        try:
            connection.request("GET", self._path, headers=dict(self._headers))
            response = connection.getresponse()
            text = response.read().decode()
            if response.status != 200:
                return None
            return list(text_string_to_metric_families(text))
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
