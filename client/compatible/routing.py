"""What all routes have in common: how one is found, and how a stream goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Protocol

from client.compatible.bearers import Report
from client.compatible.engine_connection import EngineConnection
from client.compatible.errors import ApiError, NotFound, WrongMethod
from client.compatible.http_server import ClientConnection, Request
from contracts.json_object import JsonObject

MODELS = "/v1/models"
EVENTS = "text/event-stream; charset=utf-8"
#: A route: what is asked, and what it is answered on.
Route = Callable[[Request, ClientConnection], Coroutine[object, object, None]]


class Streamed(Protocol):
    """Makes events of the pieces of an engine's stream. `usage`: the counts of tokens, once they
    have come."""

    usage: JsonObject

    def feed(self, piece: bytes) -> bytes:
        """Return the events of a piece. Raises ApiError."""

    def end(self) -> bytes:
        """Return the last events. Raises ApiError."""

    def failed(self, error: ApiError) -> bytes:
        """Return the last events of a stream that fails on its way."""


def found_route(routes: Mapping[str, Mapping[str, Route]], request: Request) -> Route:
    """Return the route of a request among those by path and method; that of MODELS/ is of all that
    are below it. Raises NotFound, WrongMethod."""
    path = request.target.partition("?")[0]
    below = f"{MODELS}/"
    found = routes.get(below if path.startswith(below) else path)
    if found is None:
        raise NotFound(f"Unknown request URL: {request.method} {path[:200]}.")
    route = found.get(request.method)
    if route is None:
        raise WrongMethod(f"Not allowed to {request.method} on {path[:200]} (HINT: "
                          f"{' or '.join(found)}).")  # fmt: skip
    return route


async def stream(
    answer: EngineConnection, events: Streamed, client: ClientConnection, report: Report
) -> None:
    """Pass a stream on as events, as they come, and report its tokens; a failure on the way is the
    last of them, and ends the connection."""
    client.begin(200, EVENTS, answer)
    request = client.request

    def take(piece: bytes) -> None:
        if request.first_at is None:
            request.first_at = time.monotonic()
        client.write(events.feed(piece))

    try:
        await answer.stream(take)
        last = events.end()
    except ApiError as error:
        last = events.failed(error)
        client.close_after()
    finally:  # who has read the last event may leave before the answer is over
        if events.usage:
            report(request, events.usage)
    client.end(last)
