"""What a run is asked to do, and the bounds within which it makes sense."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from loadgen.prompts import Prompts

DEFAULT_PROMPT = "Explain in three sentences how a sailing boat can sail against the wind."
MAX_PROMPT_BYTES = 1_000_000
DEFAULT_TIMEOUT_S = 600.0

# A client is a socket: beyond 10,000 one machine is no longer the right tool. Every record is
# kept in memory until the end (about 0.5 KB and 8 bytes a chunk): hence a million requests.
LIMITS: Mapping[str, tuple[int, int]] = {
    "clients": (1, 10_000),
    "requests": (1, 1_000_000),
    "max_concurrency": (1, 10_000),
    "num_predict": (1, 32_768),
    "input_tokens": (1, 100_000),
    "warmup": (0, 1_000),
    "seed": (0, 2**31 - 1),
    "processes": (1, 64),
    "stop_on_errors": (1, 1_000_000),
}
#: The same for what need not be whole: more than low, at most high.
RANGES: Mapping[str, tuple[float, float]] = {
    "rate": (0.0, 20_000.0),
    "duration": (0.0, 86_400.0),
    "timeout": (0.0, 86_400.0),
}
ARRIVALS = ("constant", "poisson")
APIS = ("ollama", "openai")
#: The API of --retrieval: /query of a client service, with retrieval.
RETRIEVAL = "retrieval"
SLO_NAMES = ("ttft", "itl", "tpot", "e2e")

# Also the name of a folder, so neither hidden nor a path.
RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class LoadgenError(Exception):
    """A sentence for the user; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(LoadgenError):
    """What was asked for makes no sense or cannot be done here."""

    exit_code = 2


class TargetError(LoadgenError):
    """The target cannot be reached, or refuses what it is asked for."""

    exit_code = 4


@dataclass(frozen=True)
class Replica:
    """One server: its URL as given, and host and port to connect to."""

    url: str
    host: str
    port: int


@dataclass(frozen=True)
class Options:
    """A run.

    Closed loop: `clients` at once, each sending one request after another. Open loop: `rate`
    requests per second, whether earlier ones have ended or not, at most `max_concurrency` in
    flight. It goes on for `requests` in all, or for `duration_s` seconds of sending.

    `warmup` counts requests to each replica before measuring. `seed` plus a request's index is
    that request's seed. `timeout_s` bounds one request, from its sending to its end. `goodput`:
    seconds by figure that a good request does not exceed. `sits_on`: where the model is to be.
    `stop_on_errors`: failed requests that end the run. `gpu_metrics`: URLs of DCGM exporters.
    `live`: whether histograms are kept while it goes on.
    """

    replicas: tuple[Replica, ...]
    model: str
    out: Path
    prompts: Prompts
    api: str = "ollama"
    clients: int | None = 1
    rate: float | None = None
    arrivals: str = "poisson"
    max_concurrency: int | None = None
    requests: int | None = 1
    duration_s: float | None = None
    num_predict: int | None = None
    warmup: int = 1
    seed: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S
    processes: int = 1
    reuse_connections: bool = True
    stop_on_errors: int | None = None
    goodput: Mapping[str, float] = field(default_factory=dict)
    sits_on: str | None = None
    gpu_metrics: tuple[str, ...] = ()
    live: bool = False

    @property
    def open_loop(self) -> bool:
        """Whether requests come at a rate of their own."""
        return self.rate is not None


def parse_replica(url: str) -> Replica:
    """`http://host[:port]` or `host[:port]`; the port is Ollama's where none is given.

    Raises UsageError naming the URL.
    """
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        host, port = parts.hostname, parts.port or 11434
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if not host or parts.scheme != "http" or parts.path not in ("", "/") or parts.query:
        raise UsageError(f"--url {url!r} is no address of a server; give http://HOST:PORT.")
    return Replica(f"http://{host}:{port}", host, port)


def parse_replicas(urls: Sequence[str]) -> tuple[Replica, ...]:
    """All of them, each once. Raises UsageError naming the URL that is wrong or comes twice."""
    replicas = tuple(parse_replica(url) for url in urls)
    for index, replica in enumerate(replicas):
        if replica in replicas[:index]:
            raise UsageError(f"--url {replica.url} is given twice; a replica counts once.")
    return replicas


def parse_service(option: str, url: str) -> str:
    """`http://host:port` of a service that an option names. Raises UsageError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme != "http" or parts.path not in ("", "/") or parts.query:
        raise UsageError(f"{option} {url!r} is no address of a service; give http://HOST:PORT.")
    return f"http://{parts.netloc}"


def check_bounds(name: str, value: int) -> int:
    """`value` where LIMITS allows it for `name`; raises UsageError saying what is allowed."""
    low, high = LIMITS[name]
    if not low <= value <= high:
        raise UsageError(f"{_option(name)} is {value}, but must be from {low} to {high}.")
    return value


def check_range(name: str, value: float) -> float:
    """`value` where RANGES allows it for `name`; raises UsageError saying what is allowed."""
    low, high = RANGES[name]
    if not low < value <= high:  # so written, NaN is refused
        raise UsageError(
            f"{_option(name)} is {value:g}, but must be more than {low:g} and at most {high:g}."
        )
    return value


def parse_goodput(text: str) -> dict[str, float]:
    """`ttft:0.5,itl:0.05` as seconds by figure. Raises UsageError."""
    found: dict[str, float] = {}
    for item in text.split(","):
        name, _, limit = item.strip().partition(":")
        try:
            seconds = float(limit)
        except ValueError:
            seconds = math.nan
        if name not in SLO_NAMES or name in found or not 0 < seconds < math.inf:
            raise UsageError(
                f"--goodput {text!r}: {item.strip()!r} is not one of {', '.join(SLO_NAMES)} (each "
                "once), a colon and seconds, such as ttft:0.5,itl:0.05."
            )
        found[name] = seconds
    return found


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
