"""Who has used how much, by the names of tokens, and how long requests have waited in the door's
queues: HAProxy tells of each request that has ended, and who reads answers of their tokens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, ValidationError

from client.live.series import Answer
from client.metrics import Metrics
from client.queues import ENGINES, QUEUES, Queues
from client.settings import ServiceSettings
from contracts.files import write_whole
from contracts.named_tokens import Usage, Used, read_usage, usage_file

#: Seconds between writes of what has changed.
WRITE_S = 2.0
#: Seconds between looks for reports: being woken for each costs four times what counting it does.
TAKE_S = 0.1
#: Bytes of reports that wait to be read, at most: what Linux lets an ordinary user have.
_WAITING = 1 << 20
_ASKS = "POST"  # as in lib/door.cfg: what looks how things stand is not counted


class Ended(BaseModel):
    """A request that has ended, as lib/door.cfg has it: times in milliseconds, -1 if there was
    none (`first_ms`: from when an engine had it to the head of the answer); no user: it came from
    what translates, and is counted at the door. `streams`: "1" if it had an answer in pieces."""

    user: str
    asks: str
    queue: str
    total_ms: int
    waited_ms: int
    connect_ms: int = -1
    first_ms: int = -1
    streams: str = ""


class Tokens(BaseModel):
    """The tokens of an answer, the seconds until its first piece (None: it came at once), and
    those from there on."""

    user: str
    prompt_tokens: int
    completion_tokens: int
    first_s: float | None = None
    rest_s: float = 0.0


class UsageByName(Collector):
    """The counts by name, for any thread; they outlive this process in a file."""

    def __init__(self, file: Path, answered: Callable[[Answer], None] = lambda answer: None):
        """`answered` is told of each answer that did not come from the service's own queries."""
        self._file, self._answered = file, answered
        self._lock = threading.Lock()
        self._users = read_usage(file).users
        self._written = Usage(users=self._users).model_dump_json()
        self._registry = CollectorRegistry()
        self._waited = Histogram(
            "orch_queue_wait_seconds",
            "Time that requests have waited their turn, by what they waited for.",
            ["queue"],
            registry=self._registry,
            buckets=(0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
        )
        for name in QUEUES:
            self._waited.labels(name)  # also those of 0 are there from the beginning

    def add_tokens(self, user: str, prompt: int, completion: int) -> None:
        """Count the tokens of an answer."""
        with self._lock:
            used = self._users.setdefault(user, Used())
            used.prompt_tokens += prompt
            used.completion_tokens += completion

    def follow(self, at: Path) -> None:
        """Take the reports of a named pipe from now on, beside everything else. Raises OSError."""
        pipe = os.open(at, os.O_RDWR)  # also to write: so it has no end
        with contextlib.suppress(OSError):  # one who has many of them has small ones
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _WAITING)
        threading.Thread(target=self._take_reports, args=(pipe,), daemon=True).start()
        threading.Thread(target=self._write_on, daemon=True).start()

    def _take_reports(self, pipe: int) -> None:
        wait, rest = threading.Event(), b""
        while True:
            *reports, rest = (rest + os.read(pipe, _WAITING)).split(b"\n")
            for report in reports:
                self.take(report)
            wait.wait(TAKE_S)

    def take(self, report: bytes) -> None:
        """Count a report; what is none (HAProxy tells of engines there, too) says nothing."""
        with contextlib.suppress(ValidationError):
            self._count(Ended.model_validate_json(report))
            return
        with contextlib.suppress(ValidationError):
            tokens = Tokens.model_validate_json(report)
            self.add_tokens(tokens.user, tokens.prompt_tokens, tokens.completion_tokens)
            now = time.time()
            at, count = now - tokens.rest_s, tokens.completion_tokens
            self._answered(Answer(at, now, count, tokens.first_s))

    def _count(self, ended: Ended) -> None:
        if ended.asks != _ASKS:
            return
        if ended.waited_ms >= 0 and ended.queue in QUEUES:
            self._waited.labels(ended.queue).observe(ended.waited_ms / 1000)
        # Of the engines' own APIs nobody counts tokens here.
        if ended.queue == ENGINES and ended.user not in ("", "-") and ended.streams == "1":
            first = max(0, ended.waited_ms) + max(0, ended.connect_ms) + max(0, ended.first_ms)
            now, rest_s = time.time(), max(0, ended.total_ms - first) / 1000
            self._answered(Answer(now - rest_s, now, 0, first / 1000))
        if ended.user not in ("", "-"):  # else it had no token
            with self._lock:
                used = self._users.setdefault(ended.user, Used())
                used.requests += 1
                used.seconds += max(0, ended.total_ms) / 1000

    def _write_on(self) -> None:
        wait = threading.Event()
        while not wait.wait(WRITE_S):
            self.write()

    def write(self) -> None:
        """Write the counts for --token list, if they have changed."""
        with self._lock:
            now = Usage(users=self._users).model_dump_json()
        if now != self._written:
            with contextlib.suppress(OSError):  # next time
                write_whole(self._file, [now], 0o600)
                self._written = now

    def collect(self) -> Iterator[Metric]:
        """Yield all of it, as it is now."""
        yield from self._registry.collect()
        families = [CounterMetricFamily(*words, labels=["user"]) for words in _FAMILIES]
        with self._lock:
            for user, used in self._users.items():
                for family, value in zip(families, used.model_dump().values(), strict=True):
                    family.add_metric([user], value)
        yield from families


def usage_of(
    settings: ServiceSettings, metrics: Metrics, answered: Callable[[Answer], None]
) -> UsageByName | None:
    """Return what the bearers of tokens use, and how long they wait, which metrics show from now
    on; None if there is no deployment. Raises OSError."""
    if settings.deployment is None:
        return None
    usage = UsageByName(usage_file(settings.output, settings.deployment), answered)
    usage.follow(settings.door / "ended")
    metrics.show(usage)
    metrics.show(Queues(settings.door / "commands"))
    return usage


#: In the order of what is counted.
_FAMILIES = (
    ("orch_user_requests", "Requests that have ended, by the name of their token."),
    ("orch_user_request_seconds", "Time that those have taken, their turn waited for included."),
    ("orch_user_prompt_tokens", "Tokens of prompts of /query and /v1."),
    ("orch_user_generation_tokens", "Tokens generated for /query and /v1."),
)
