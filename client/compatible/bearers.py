"""Whose request it is, as the door says it: the turn that it has among those of others goes with it
to the engine, and the tokens of its answer are reported."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from client.compatible.http_server import JSON, Request
from contracts.json_object import JsonObject

#: Reports that wait for their reader, and seconds until it is tried again.
_MOST_WAITING, _RETRY_S = 100_000, 0.02
#: Told of a request, and of the counts of tokens in its answer.
Report = Callable[[Request, JsonObject], None]


def fields_of(request: Request) -> str:
    """Return the lines that go with a request for an engine's answer."""
    turn = request.fields.get(b"orch-turn", b"")
    return f"Content-Type: {JSON}\r\nOrch-Turn: {turn.decode()}\r\n" if turn.isdigit() else ""


def report_nothing(request: Request, usage: JsonObject) -> None:
    """Tell nobody."""


class Reporter:
    """Reports to a named pipe, a line each, from an event loop: if it is full, a moment later."""

    def __init__(self, at: Path) -> None:
        """Raises OSError."""
        self._pipe = os.open(at, os.O_RDWR | os.O_NONBLOCK)  # also to read: others may come later
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._later: asyncio.TimerHandle | None = None

    def __call__(self, request: Request, usage: JsonObject) -> None:
        """Report an answer, as Report has it."""
        user = request.fields.get(b"orch-user", b"").decode("latin-1")
        if not user:
            return
        counts = {name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")}
        report = json.dumps({"user": user, **counts, **_times(request)})
        self._waiting.append(f"{report}\n".encode())
        if self._later is None:
            self._send()

    def _send(self) -> None:
        self._later = None
        try:
            while self._waiting:
                os.write(self._pipe, self._waiting[0])  # whole, or not at all: it is short
                self._waiting.popleft()
        except BlockingIOError:
            self._later = asyncio.get_running_loop().call_later(_RETRY_S, self._send)


def _times(request: Request) -> JsonObject:
    """Seconds from the request to the first piece of its stream, and from there to now; those of an
    answer that came at once are all until now."""
    now, first = time.monotonic(), request.first_at
    if first is None:
        return {"first_s": None, "rest_s": now - request.came_at}
    return {"first_s": first - request.came_at, "rest_s": now - first}
