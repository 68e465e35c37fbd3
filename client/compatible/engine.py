"""Connections to the engine, each for one answer at a time, and kept for the next one.

A connection that is left before its answer has come whole is closed at once, so that the engine
stops working on what nobody waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TypeVar, cast

from client.compatible.addresses import Address
from client.compatible.errors import ApiError, EngineFailed, EngineGone, TooSlow
from client.ollama.requests import CONNECT_TIMEOUT_S
from engines.headers import Headers
from engines.http_answers import MOST_HELD, TOO_LONG, Answers, BadAnswer
from engines.sockets import NOTICE_DEATH, in_words

#: Idle connections that are kept at most.
MOST_IDLE = 1024
JSON = "application/json"

T = TypeVar("T")


class EngineConnection(Answers, asyncio.Protocol):
    """One connection, and the answer that comes on it."""

    def __init__(self, name: str, remote: bool, idle: deque[EngineConnection]) -> None:
        """`name` is what errors call the engine, `remote` whether it is on another host; `idle` is
        where connections wait that are kept."""
        super().__init__()
        self._name, self._remote, self._idle = name, remote, idle
        self._waiter: asyncio.Future[None] | None = None
        self._failure: ApiError | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._held: list[bytes] = []
        self._keep = False
        self._timer: asyncio.TimerHandle | None = None
        self.heard = False

    # --- for who asks ---

    def send(self, request: bytes, timeout_s: float) -> None:
        """Send a request; the whole answer may take `timeout_s`."""
        self.next_answer()
        self.heard = self._keep = False
        self._sink, self._held = None, []
        self._timer = self._loop.call_later(timeout_s, self._expire, timeout_s)
        self._transport.write(request)

    async def head(self) -> None:
        """Return once the status of the answer is known. Raises EngineGone, TooSlow,
        EngineFailed."""
        while not self.status:
            await self._something()
        why = self.unreadable()
        if why is not None:
            raise EngineFailed(f"{self._name} {why}.")

    async def stream(self, sink: Callable[[bytes], None]) -> None:
        """Pass each piece of the body to `sink` as it comes; return at the end. Raises as `head`
        does, and what `sink` raises of ApiError."""
        held, self._held = self._held, []
        for piece in held:
            sink(piece)
        self._sink = sink
        while not self.over:
            await self._something()

    async def read(self) -> bytes:
        """Return the whole body. Raises as `head` does."""
        pieces: list[bytes] = []
        size = 0

        def take(piece: bytes) -> None:
            nonlocal size
            pieces.append(piece)
            size += len(piece)
            if size > MOST_HELD:
                raise EngineFailed(f"{self._name} {TOO_LONG}.")

        await self.stream(take)
        return b"".join(pieces)

    def pause(self) -> None:
        """Read no more for now: whoever gets the answer is slow to take it."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def let_go(self) -> None:
        """Keep the connection if the answer has come whole, else close it."""
        if self._timer is not None:
            self._timer.cancel()
        self._sink = None
        if self.over and self._keep and self._failure is None and len(self._idle) < MOST_IDLE:
            self.resume()
            self._idle.append(self)
        else:
            self._failure = self._failure or EngineGone(f"{self._name} was left.")
            self._transport.abort()

    async def _something(self) -> None:
        """Wait until something has come. Raises what has failed."""
        if self._failure is None:
            self._waiter = self._loop.create_future()
            await self._waiter
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ApiError) -> None:
        self._failure = self._failure or error
        self._transport.abort()
        self._wake()

    def _expire(self, timeout_s: float) -> None:
        self._fail(TooSlow(f"{self._name} did not answer in {timeout_s:g} s."))

    # --- asyncio's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)  # of uvloop's it is no subclass
        if self._remote:
            sock = transport.get_extra_info("socket")
            for option in NOTICE_DEATH:
                sock.setsockopt(*option)

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes of the answer, or more than that."""
        self.heard = True
        try:
            self.feed(data)
        except BadAnswer as error:
            self._fail(EngineFailed(f"{self._name} {error}."))
        except ApiError as error:
            self._fail(error)
        if self.over and self.surplus:
            self._fail(EngineFailed(f"{self._name} sent more than was asked for."))

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio's: an answer may end so."""
        if self in self._idle:
            self._idle.remove(self)
        if self.ends_with_connection and not self.over and error is None:
            self.over = True
        elif not self.over:
            why = in_words(error) if isinstance(error, OSError) else "it closed the connection"
            self._failure = self._failure or EngineGone(f"{self._name} is gone: {why}.")
        self._wake()

    # --- what the answer is ---

    def answer_begins(self) -> None:
        """The status is known."""
        self._wake()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.over:
            return
        if self._sink is None:
            self._held.append(body)
        else:
            self._sink(body)

    def answer_ends(self) -> None:
        """It has come whole. What the parser knows of the connection, it forgets after this."""
        self._keep = self._parser.should_keep_alive()
        self._wake()


class Engine:
    """What stands behind: an Ollama, or what balances several, at one address."""

    def __init__(self, address: Address, headers: Headers, timeout_s: float) -> None:
        """`headers` go with each request; `timeout_s` is what an answer may take, in seconds."""
        self.name = f"The engine at {address}"
        self.timeout_s = timeout_s
        self._address = address
        self._idle: deque[EngineConnection] = deque()  # the last used last
        host = str(address) if address.host else "localhost"
        fields = {"Host": host, "Accept-Encoding": "identity", **dict(headers)}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def ask(self, method: str, path: str, body: bytes | None = None, fields: str = "") -> Asked:
        """Send a request; `fields` are lines of its head. What it returns must be entered, or let
        go."""
        return Asked(self, self._request(method, path, body, fields))

    def idle(self) -> EngineConnection | None:
        """Return a connection from before, if there is one: the last that was used."""
        return self._idle.pop() if self._idle else None

    def _request(self, method: str, path: str, body: bytes | None, fields: str) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\n{self._fields}{fields}"
        if body is None:
            return f"{head}\r\n".encode("latin-1")
        kind = "" if fields else f"Content-Type: {JSON}\r\n"
        return f"{head}{kind}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body

    async def connected(self) -> EngineConnection:
        """Return a new connection. Raises EngineGone."""
        loop, to = asyncio.get_running_loop(), self._address

        def connection() -> EngineConnection:
            return EngineConnection(self.name, self._address.is_remote, self._idle)

        made = (
            loop.create_unix_connection(connection, to.path)
            if to.path
            else loop.create_connection(connection, to.host, to.port)
        )
        try:
            return (await _in_time(made, CONNECT_TIMEOUT_S))[1]
        except OSError as error:
            raise EngineGone(f"{self.name} does not answer: {in_words(error)}.") from error


class Asked:
    """A request to the engine. It goes out at once if there is a connection for it; as an
    asynchronous context it is the connection, once the status of the answer is known, and may raise
    what `head` and `connected` do."""

    def __init__(self, engine: Engine, request: bytes) -> None:
        self._engine, self._request = engine, request
        self._connection = engine.idle()
        if self._connection is not None:
            self._connection.send(request, engine.timeout_s)

    async def __aenter__(self) -> EngineConnection:
        """Wait for the answer."""
        try:
            return await self._answering()
        except BaseException:  # also that nobody waits any longer
            self.let_go()
            raise

    async def __aexit__(self, *error: object) -> None:
        """The answer has been read, or is not wanted."""
        self.let_go()

    def let_go(self) -> None:
        """Keep the connection if the answer has come whole, else close it. Any number of times."""
        connection, self._connection = self._connection, None  # it may be another request's soon
        if connection is not None:
            connection.let_go()

    async def _answering(self) -> EngineConnection:
        """On a connection from before, which the engine may have closed just as the request went
        out: then it is sent once more, on a new one."""
        kept = self._connection
        if kept is not None:
            try:
                await kept.head()
                return kept
            except EngineGone:
                if kept.heard:
                    raise
                kept.let_go()
        self._connection = new = await self._engine.connected()
        new.send(self._request, self._engine.timeout_s)
        await new.head()
        return new


async def _in_time(made: Coroutine[object, object, T], seconds: float) -> T:
    """Await a coroutine for so long. asyncio.wait_for, which makes a task of it, takes as long as
    a connection itself. Raises TimeoutError."""
    task, over = asyncio.current_task(), False

    def expire() -> None:
        nonlocal over
        over = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return await made
    except asyncio.CancelledError:
        if over:
            raise TimeoutError(f"no connection in {seconds:g} s") from None
        raise
    finally:
        timer.cancel()
