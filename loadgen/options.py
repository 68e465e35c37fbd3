"""What a run is asked to do, and the bounds within which it makes sense."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_PROMPT = "Explain in three sentences how a sailing boat can sail against the wind."
DEFAULT_TIMEOUT_S = 600.0

# A client is a socket: beyond 10,000 one process is no longer the right tool. Every record is
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
}
#: The same for what need not be whole: more than low, at most high.
RANGES: Mapping[str, tuple[float, float]] = {
    "rate": (0.0, 20_000.0),
    "duration": (0.0, 86_400.0),
    "timeout": (0.0, 86_400.0),
}
ARRIVALS = ("constant", "poisson")
SLO_NAMES = ("ttft", "itl", "tpot", "e2e")
MAX_PROMPT_BYTES = 1_000_000

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
    """A closed-loop run: `clients` at once, `requests` in all, each client one after another.

    `warmup` counts requests to each replica before measuring. `seed` plus a request's index is
    that request's seed. `timeout_s` bounds one request, from its sending to its end.
    """

    replicas: tuple[Replica, ...]
    model: str
    out: Path
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)
    clients: int = 1
    requests: int = 1
    num_predict: int | None = None
    warmup: int = 1
    seed: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S


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


def check_bounds(name: str, value: int) -> int:
    """`value` where LIMITS allows it for `name`; raises UsageError saying what is allowed."""
    low, high = LIMITS[name]
    if not low <= value <= high:
        option = name.replace("_", "-")
        raise UsageError(f"--{option} is {value}, but must be from {low} to {high}.")
    return value


def check_prompt(prompt: str) -> str:
    """`prompt` where it can be sent; raises UsageError."""
    size = len(prompt.encode("utf-8", "surrogatepass"))
    if not 0 < size <= MAX_PROMPT_BYTES:
        raise UsageError(f"a prompt has {size} bytes, but must have 1 to {MAX_PROMPT_BYTES}.")
    return prompt


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a JSON Lines file: each line a string or an object with "prompt".

    Raises UsageError naming the file and the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {path} cannot be read: {error}.") from error
    prompts = tuple(
        _prompt_of(line, f"--prompts {path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    )
    if not prompts:
        raise UsageError(f"--prompts {path} holds no prompt.")
    return prompts


def _prompt_of(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    if isinstance(value, dict):
        value = value.get("prompt")
    if not isinstance(value, str):
        raise UsageError(f'{where} is neither a string nor an object with a string "prompt".')
    return check_prompt(value)
