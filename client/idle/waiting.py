"""Requests that wait for an engine which is there only while somebody asks: the first has it
submitted, and all are passed on to the door once it answers. A stream is told that it waits."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from client.compatible.engine_client import Asked, EngineClient
from client.compatible.engine_connection import EngineConnection
from client.compatible.errors import MESSAGES, ApiError, NoEngine
from client.compatible.http_server import JSON, ClientConnection, Request
from client.idle.engine_job import EngineFiles, EngineJob
from contracts.json_object import JsonObject

#: Seconds between looks whether the engine answers, and between signs of life of a stream.
LOOK_S, SIGN_S = 0.2, 5.0
#: Seconds that a request without a stream waits: proxies and programs give up soon after.
PATIENCE_S = 60.0
#: By so many seconds the time of a file may be before the clock's: the kernel takes that of its
#: last tick. What failed so shortly before a request came, it was told when it came.
TICK_S = 0.02
#: Seconds until it is tried again after a failure, and what is said if no wake-up has been timed.
BACKOFF_S, UNKNOWN_S = 10.0, 30.0
#: What goes with a request; the door has let it in, and says whose it is.
_FIELDS = ("content-type", "accept", "orch-user", "orch-turn", "orch-priority", "anthropic-version")
#: What goes back with an answer that is passed on whole.
_ANSWERED = ("retry-after", "orch-replica", "orch-retried")
#: Told how long it has been waited.
Sign = Callable[[str], None]
_STREAM_BY_DEFAULT = ("/api/generate", "/api/chat")


@dataclass(frozen=True)
class Kind:
    """How a stream looks: its content type, a sign of life that no client takes for an answer, and
    an error on the way."""

    media: str
    is_events: bool

    def sign(self, words: str) -> bytes:
        """A comment; JSON has none, but blanks before its first text."""
        return f": {words}\n\n".encode() if self.is_events else b" "

    def failed(self, target: str, body: JsonObject) -> bytes:
        """The last of it."""
        text = json.dumps(body)
        if not self.is_events:
            return f"{text}\n".encode()
        head = "event: error\n" if target.startswith(MESSAGES) else ""
        return f"{head}data: {text}\n\n".encode()


EVENTS = Kind("text/event-stream; charset=utf-8", True)
LINES = Kind("application/x-ndjson", False)


def kind_of(request: Request) -> Kind | None:
    """Return how the stream looks that a request asks for; None: it asks for none."""
    path = request.target.partition("?")[0]
    try:
        body = json.loads(request.body)
        streams = body.get("stream", path in _STREAM_BY_DEFAULT)
    except (ValueError, AttributeError, RecursionError):
        return None
    if streams is not True:
        return None
    return EVENTS if path.startswith("/v1/") else LINES


class _Source:
    """What a stream comes from, once it comes."""

    answer: EngineConnection | None = None

    def pause(self) -> None:
        """The client is slow to take it."""
        if self.answer is not None:
            self.answer.pause()

    def resume(self) -> None:
        """It has taken that."""
        if self.answer is not None:
            self.answer.resume()


class WaitingRoom:
    """Answers what the door sends here while no engine answers."""

    def __init__(self, files: EngineFiles, door: EngineClient, model: str) -> None:
        """`door` takes what has waited; `model` is the deployment's."""
        self._files, self._door, self._model = files, door, model
        self._took_s = UNKNOWN_S

    def handle(self, request: Request, client: ClientConnection) -> Coroutine[object, object, None]:
        """Return what answers the request. That may raise ApiError."""
        if request.method == "GET":
            return self._list(request, client)
        return self._answer(request, client, kind_of(request))

    async def _list(self, request: Request, client: ClientConnection) -> None:
        """The model, which clients look for before they ask it."""
        if request.target.startswith("/api/"):
            client.answer(200, {"models": [{"name": self._model, "model": self._model}]})
            return
        entry = {"id": self._model, "object": "model", "created": 0, "owned_by": "library"}
        client.answer(200, {"object": "list", "data": [entry]})

    async def _answer(self, request: Request, client: ClientConnection, kind: Kind | None) -> None:
        self._check_last()
        if kind is None:
            await self._wait(PATIENCE_S, None)
            await self._pass(request, client)
            return
        source = _Source()
        client.begin(200, kind.media, source)
        try:
            await self._wait(math.inf, lambda words: client.write(kind.sign(words)))
            await self._stream(request, client, kind, source)
        except ApiError as error:
            client.close_after()
            client.end(kind.failed(request.target, error.as_body(request.target)))

    def _check_last(self) -> None:
        """Raises NoEngine: one has failed just now."""
        engine = self._files.read()
        left = engine.since + BACKOFF_S - time.time()
        if engine.problem and left > 0:
            raise NoEngine(f"{engine.problem}; it is tried again in {left:.0f} s.", left)

    async def _wait(self, patience_s: float, sign: Sign | None) -> None:
        """Return once an engine answers. Raises NoEngine."""
        begun, arrived, signed = time.monotonic(), time.time() - TICK_S, -math.inf
        self._files.wake()
        while not self._files.awake:
            engine, waited = self._files.read(), time.monotonic() - begun
            if engine.problem and engine.since >= arrived:
                raise NoEngine(
                    f"{engine.problem}; it is tried again when somebody asks.", BACKOFF_S
                )
            if waited > patience_s:
                queue_s = engine.expected - time.time() if engine.expected else -waited
                left = max(queue_s + self._took_s, BACKOFF_S)
                raise NoEngine(f"The engine is on its way ({_job(engine)}); ask again.", left)
            if sign is not None and waited - signed >= SIGN_S:
                sign(f"waits for the engine since {waited:.0f} s ({_job(engine)})")
                signed = waited
            await asyncio.sleep(LOOK_S)
        self._took_s = max(time.monotonic() - begun, LOOK_S)

    async def _pass(self, request: Request, client: ClientConnection) -> None:
        """Pass it on, and its answer back, whole."""
        asked = self._ask(request)
        client.on_gone = asked.let_go
        async with asked as answer:
            body = await answer.read()
            more = {name: value for name in _ANSWERED if (value := answer.field(name))}
            client.send(answer.status, answer.field("content-type") or JSON, body, more)

    async def _stream(
        self, request: Request, client: ClientConnection, kind: Kind, source: _Source
    ) -> None:
        asked = self._ask(request)
        client.on_gone = asked.let_go
        async with asked as answer:
            if answer.status != 200:
                client.close_after()
                client.end(kind.failed(request.target, _object(await answer.read())))
                return
            source.answer = answer
            await answer.stream(client.write)
            client.end()

    def _ask(self, request: Request) -> Asked:
        fields = "".join(
            f"{name}: {value.decode('latin-1')}\r\n"
            for name in _FIELDS
            if (value := request.fields.get(name.encode()))
        )
        return self._door.ask(request.method, request.target, request.body, fields)


def _job(engine: EngineJob) -> str:
    if not engine.job:
        return "its job is about to be submitted"
    left = engine.expected - time.time()
    return f"job {engine.job}{f', which is to begin in {left:.0f} s' if left > 0 else ''}"


def _object(body: bytes) -> JsonObject:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"error": body.decode("utf-8", "replace")[:300]}
