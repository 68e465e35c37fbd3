"""What an engine that has metrics of its own says in them, passed on at each scrape: it asks for a
token, which Prometheus does not have."""

from __future__ import annotations

import argparse
import http.client
from urllib.parse import urlsplit

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from engines.http.asking import http_client
from engines.http.headers import Headers
from exporters.ollama import TIMEOUT_S, Server, ServerCollector, server_at


def metrics_at(url: str) -> tuple[Server, str]:
    """Return server and path of `http://HOST:PORT/PATH`, or of https. Raises
    argparse.ArgumentTypeError."""
    path = urlsplit(url).path
    if path in ("", "/"):
        raise argparse.ArgumentTypeError(f"{url!r} is not http://HOST:PORT/PATH")
    return server_at(url.removesuffix(path)), path


class EngineCollector(ServerCollector):
    """The metrics of one engine, of `path` at `server`."""

    def __init__(
        self,
        server: Server,
        path: str,
        gpus: int = 0,
        job_end: float | None = None,
        headers: Headers = (),
        ca: str | None = None,
    ) -> None:
        super().__init__(server, gpus, job_end, headers, ca)
        self._path = path

    def _ask(self) -> list[Metric] | None:
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
