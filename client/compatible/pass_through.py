"""Routes of the engine's own that are passed on as they are, unread, until they have a layer of
their own: OpenAI's responses and Anthropic's messages."""

from __future__ import annotations

from client.compatible.engine_client import EngineClient
from client.compatible.errors import ApiError
from client.compatible.http_server import ClientConnection, Request

#: Paths that are passed on, and all below them.
PASSED_ON = ("/v1/responses", "/v1/messages")
_FIELDS = (b"content-type", b"accept", b"anthropic-version", b"anthropic-beta", b"orch-turn")


def is_passed_on(path: str) -> bool:
    """Return whether a path is the engine's own."""
    return any(path == one or path.startswith(f"{one}/") for one in PASSED_ON)


async def pass_on(engine: EngineClient, request: Request, client: ClientConnection) -> None:
    """Pass a request on, and its answer back, each piece as it comes. Raises ApiError before the
    answer has begun; after that it breaks off."""
    given = ((name, request.fields[name]) for name in _FIELDS if name in request.fields)
    fields = "".join(f"{name.decode()}: {value.decode('latin-1')}\r\n" for name, value in given)
    body = request.body if request.method != "GET" else None
    async with engine.ask(request.method, request.target, body, fields) as answer:
        client.begin(answer.status, answer.field("content-type"), answer)
        try:
            await answer.stream(client.write)
        except ApiError:
            client.abort()
        else:
            client.end()
