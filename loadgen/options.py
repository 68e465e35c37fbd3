"""What a run is asked to do, and of which servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SkipValidation

from contracts.errors import UsageError
from contracts.json_object import JsonObject
from contracts.load import LoadSpec
from engines.http import urls
from engines.http.headers import Headers
from engines.registry import RETRIEVAL
from loadgen.load.prompts import Prompts


@dataclass(frozen=True)
class Replica:
    """One server: the URL by which it is named, and host and port to connect to. `root` is what
    stands before the API's own paths; `secure`: by TLS."""

    url: str
    host: str
    port: int
    secure: bool = False
    root: str = ""


class Options(LoadSpec):
    """A run: a load, and where it goes and how.

    `addresses`: a file of where the replicas are now. `prompts` are what `prompt` or `input_tokens`
    ask for, or a file's. `workers`: processes of the load generator. `sits_on`: where the model is
    to be. `stop_on_errors`: failed requests that end the run. `gpu_metrics`: URLs of DCGM
    exporters. `monitoring_login`: headers for these, and for whatever else has to do with
    monitoring. `live`: whether histograms are kept while it goes on. `headers`: name and value of
    those that requests have beside our own; values are secrets. `ca`: the file or folder of the CAs
    that are trusted, instead of the system's.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    replicas: tuple[Replica, ...]
    addresses: Path | None = Field(None, exclude=True)
    model: str
    out: Path
    prompts: SkipValidation[Prompts]
    api: str = "ollama"
    workers: int = 1
    reuse_connections: bool = True
    stop_on_errors: int | None = None
    sits_on: str | None = None
    gpu_metrics: tuple[str, ...] = ()
    monitoring_login: Headers = Field((), repr=False, exclude=True)
    live: bool = False
    headers: Headers = Field((), repr=False, exclude=True)
    ca: str | None = None

    @classmethod
    def fill(cls, given: JsonObject) -> dict[str, object]:
        """Return nothing: what prompts there are is known already."""
        return {name: value for name, value in super().fill(given).items() if name != "prompt"}


def parse_replica(url: str, api: str = "ollama") -> Replica:
    """Return where a server is, by a URL as its users write it (engines/http/urls.py).

    Raises UsageError naming the URL.
    """
    base = _parse("--url", url, api)
    return Replica(base.shown, base.host, base.port, base.secure, base.root)


def _parse(option: str, url: str, api: str) -> urls.Base:
    try:
        return urls.parse(url, api)
    except urls.BadUrl as error:
        raise UsageError(f"{option} {urls.presentable(url)!r} {error}.") from error


def parse_replicas(given: Sequence[str], api: str = "ollama") -> tuple[Replica, ...]:
    """Return all of them. Raises UsageError naming the URL that is wrong or comes twice."""
    replicas = tuple(parse_replica(url, api) for url in given)
    for index, replica in enumerate(replicas):
        if replica in replicas[:index]:
            raise UsageError(f"--url {replica.url} is given twice; a replica counts once.")
    return replicas


def parse_service(option: str, url: str) -> str:
    """Return `http://host:port` of a service that an option names. Raises UsageError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    plain = parts.path in ("", "/") and not parts.query and "@" not in parts.netloc
    if not host or not port or parts.scheme != "http" or not plain:
        shown = urls.presentable(url)
        raise UsageError(f"{option} {shown!r} is no address of a service; give http://HOST:PORT.")
    return f"http://{parts.netloc}"


def parse_metrics(url: str) -> str:
    """Return an exporter's URL, with /metrics if it has no path. Raises UsageError."""
    base = _parse("--gpu-metrics", url, RETRIEVAL)
    return base.shown + ("" if base.root else "/metrics")
