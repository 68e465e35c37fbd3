"""Whose request it is, as the door says it: the turn that it has among those of others goes with it
to the engine, and the tokens of its answer are reported."""

from __future__ import annotations

import asyncio
import json
import socket
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
    """Reports to a datagram socket, from an event loop. Linux lets ten reports wait for their
    reader: one more is sent a moment later. Those that nobody takes are lost."""

    def __init__(self, at: Path) -> None:
        self._at = str(at)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._later: asyncio.TimerHandle | None = None

    def __call__(self, request: Request, usage: JsonObject) -> None:
        """Report an answer, as Report has it."""
        user = request.fields.get(b"orch-user", b"").decode("latin-1")
        if not user:
            return
        counts = {name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")}
        self._waiting.append(json.dumps({"user": user, **counts, **_times(request)}).encode())
        if self._later is None:
            self._send()

    def _send(self) -> None:
        self._later = None
        try:
            while self._waiting:
                self._sock.sendto(self._waiting[0], self._at)
                self._waiting.popleft()
        except BlockingIOError:
            self._later = asyncio.get_running_loop().call_later(_RETRY_S, self._send)
        except OSError:
            self._waiting.clear()


def _times(request: Request) -> JsonObject:
    """Seconds from the request to the first piece of its stream, and from there to now; those of an
    answer that came at once are all until now."""
    now, first = time.monotonic(), request.first_at
    if first is None:
        return {"first_s": None, "rest_s": now - request.came_at}
    return {"first_s": first - request.came_at, "rest_s": now - first}
