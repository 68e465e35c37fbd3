"""Whose request it is, as the door says it: the turn that it has among those of others goes with it
to the engine, and the tokens of its answer are reported."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from client.compatible.http_server import JSON, Request
from contracts.json_object import JsonObject

#: Told of a request, and of the counts of tokens in its answer.
Report = Callable[[Request, JsonObject], None]


def fields_of(request: Request) -> str:
    """Return the lines that go with a request for an engine's answer."""
    turn = request.fields.get(b"orch-turn", b"")
    return f"Content-Type: {JSON}\r\nOrch-Turn: {turn.decode()}\r\n" if turn.isdigit() else ""


def report_nothing(request: Request, usage: JsonObject) -> None:
    """Tell nobody."""


def reporter(at: Path) -> Report:
    """Return what reports to a datagram socket; a report that nobody takes is lost."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)

    def report(request: Request, usage: JsonObject) -> None:
        user = request.fields.get(b"orch-user", b"").decode("latin-1")
        counts = {name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")}
        if user:
            said = {"user": user, **counts, **_times(request)}
            with contextlib.suppress(OSError):
                sock.sendto(json.dumps(said).encode(), str(at))

    return report


def _times(request: Request) -> JsonObject:
    """Seconds from the request to the first piece of its stream, and from there to now; those of an
    answer that came at once are all until now."""
    now, first = time.monotonic(), request.first_at
    if first is None:
        return {"first_s": None, "rest_s": now - request.came_at}
    return {"first_s": first - request.came_at, "rest_s": now - first}
