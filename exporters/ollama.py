"""What an Ollama says of itself, as metrics: it is asked at each scrape."""

from __future__ import annotations

import argparse
import http.client
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlsplit

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts.json_object import JsonObject
from engines.http.asking import http_client
from engines.http.headers import Headers
from engines.json_values import object_of
from engines.ollama import RUNNING, TAGS, VERSION, loaded_model

#: Seconds for all three questions together: a scrape is to be over before Prometheus gives up, also
#: if Ollama hangs.
TIMEOUT_S = 1.5
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


class Server(NamedTuple):
    """Where an engine answers; `secure`: by TLS."""

    secure: bool
    host: str
    port: int


def server_at(url: str) -> Server:
    """Return `http://HOST:PORT`, or the same with https. Raises argparse.ArgumentTypeError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    schemes = ("http", "https")
    if not host or not port or parts.scheme not in schemes or parts.path not in ("", "/"):
        raise argparse.ArgumentTypeError(f"{url!r} is not http://HOST:PORT or https://HOST:PORT")
    return Server(parts.scheme == "https", host, port)


@dataclass(frozen=True)
class OllamaStatus:
    """What one Ollama says of itself and of its models."""

    version: str
    on_disk: int
    loaded: list[JsonObject]


def ask(
    server: Server, timeout_s: float = TIMEOUT_S, headers: Headers = (), ca: str | None = None
) -> OllamaStatus | None:
    """Return what it says; None if it does not answer, or answers something else. `ca`: what to
    trust for https. Raises UsageError if that cannot be used."""
    until = perf_counter() + timeout_s
    connection = http_client(*server, timeout_s, ca)
    try:
        version, tags, running = (
            _get(connection, path, until, headers) for path in (VERSION, TAGS, RUNNING)
        )
        return OllamaStatus(str(version["version"]), len(_models(tags)), _models(running))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    finally:
        connection.close()


def _models(listing: JsonObject) -> list[JsonObject]:
    """What a listing has. Raises KeyError, TypeError."""
    found = listing["models"] or []
    if not isinstance(found, list):
        raise TypeError(found)
    return found


def _get(
    connection: http.client.HTTPConnection, path: str, until: float, headers: Headers
) -> JsonObject:
    """The JSON object of a path. Raises OSError, HTTPException, ValueError."""
    left = until - perf_counter()
    if left <= 0:
        raise TimeoutError
    connection.timeout = left
    if connection.sock is not None:
        connection.sock.settimeout(left)
    connection.request("GET", path, headers=dict(headers))
    response = connection.getresponse()
    data = response.read()
    if response.status != 200:
        raise ValueError(response.status)
    return object_of(data)


class ServerCollector(Collector):
    """The metrics of one server, and what its job knows of itself. A subclass asks it.

    `gpus`: how many the job asked for; `job_end`: Unix time at which its time limit ends; `headers`
    go with each question; `ca`: what to trust for https.
    """

    #: What its metrics begin with, and what it is called.
    prefix, title = "engine", "the engine"

    def __init__(
        self,
        server: Server,
        gpus: int = 0,
        job_end: float | None = None,
        headers: Headers = (),
        ca: str | None = None,
    ) -> None:
        self._server = server
        self._ca = ca
        self._gpus = gpus
        self._job_end = job_end
        self._headers = headers

    def collect(self) -> Iterable[Metric]:
        """Ask it now."""
        started_at = perf_counter()
        found = self._ask()
        seconds = perf_counter() - started_at
        up, took = f"{self.prefix}_up", f"{self.prefix}_scrape_duration_seconds"
        yield gauge(up, f"1 if {self.title} answered, else 0.", found is not None)
        yield gauge(took, f"Time that {self.title} took to answer.", seconds)
        yield from job_metrics(self._gpus, self._job_end)
        yield from found or ()

    def _ask(self) -> Iterable[Metric] | None:
        """What it says; None if it does not answer, or answers something else."""
        raise NotImplementedError


class OllamaCollector(ServerCollector):
    """Of one Ollama."""

    prefix, title = "ollama", "Ollama"

    def _ask(self) -> Iterable[Metric] | None:
        status = ask(self._server, headers=self._headers, ca=self._ca)
        return None if status is None else _known(status)


def job_metrics(gpus: int, job_end: float | None) -> Iterable[Metric]:
    """Yield what an engine's job knows of itself."""
    yield gauge("orch_gpus_requested", "GPUs that the job asked for.", gpus)
    if job_end is not None:
        words = "Unix time at which the job's time limit ends."
        yield gauge("orch_job_end_timestamp_seconds", words, job_end)


def gauge(name: str, words: str, value: float) -> Metric:
    """Return a metric of one value."""
    return GaugeMetricFamily(name, words, value=float(value))


def _known(status: OllamaStatus) -> Iterable[Metric]:
    """The metrics of an Ollama that has answered."""
    version = InfoMetricFamily("ollama_version", "Version of Ollama.")
    version.add_metric([], {"version": status.version})
    yield version
    yield gauge("ollama_models_on_disk", "Models that Ollama has.", status.on_disk)
    yield gauge("ollama_models_loaded", "Models that are in memory.", len(status.loaded))
    yield _of_each(status, "ollama_model_size_bytes", "Memory that a loaded model takes.", _size)
    yield _of_each(status, "ollama_model_vram_bytes", "Of that, memory of GPUs.", _on_gpus)
    yield _of_each(
        status,
        "ollama_model_expires_timestamp_seconds",
        "Unix time at which the model is unloaded if nobody uses it.",
        _expires,
    )


def _of_each(
    status: OllamaStatus, name: str, words: str, value: Callable[[JsonObject], float | None]
) -> Metric:
    family = GaugeMetricFamily(name, words, labels=["model"])
    for model in status.loaded:
        found = value(model)
        if found is not None:
            family.add_metric([str(model.get("name"))], found)
    return family


def _size(model: JsonObject) -> float:
    return float(loaded_model(model).size or 0)


def _on_gpus(model: JsonObject) -> float:
    return float(loaded_model(model).size_vram or 0)  # Ollama leaves it out if it is 0


def _expires(model: JsonObject) -> float | None:
    return unix_time(str(model.get("expires_at")))


def unix_time(text: str) -> float | None:
    """Return Unix seconds of a time as Go writes it (RFC 3339, up to nine digits of a second);
    None: it is none."""
    plain = _FRACTION.sub(r".\1", text.replace("Z", "+00:00"))
    padded = re.sub(r"\.\d+", lambda digits: digits[0].ljust(7, "0"), plain)
    try:
        return datetime.fromisoformat(padded).timestamp()
    except (ValueError, OverflowError):
        return None
