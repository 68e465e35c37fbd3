"""Connections to the engine, each for one answer at a time, and kept for the next one.

A connection that is left before its answer has come whole is closed at once, so that the engine
stops working on what nobody waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TypeVar

from client.compatible.engine_connection import EngineConnection
from client.compatible.errors import EngineGone
from client.compatible.socket_address import SocketAddress
from engines.http.headers import Headers
from engines.http.sockets import CONNECT_TIMEOUT_S, in_words

JSON = "application/json"

#: Seconds for which a connection is kept that nobody uses: lib/door.cfg keeps its end for longer
#: (timeout http-keep-alive).
KEPT_S = 240.0

T = TypeVar("T")


class EngineClient:
    """What stands behind: an Ollama, or what balances several, at one address."""

    def __init__(self, address: SocketAddress, headers: Headers, timeout_s: float) -> None:
        """`headers` go with each request; `timeout_s` is what an answer may take, in seconds."""
        self.name = f"The engine at {address}"
        self.timeout_s = timeout_s
        self._address = address
        #: The door itself sends a request to other replicas. What it ends without an answer may
        #: have killed engines, and is not sent again.
        self.is_door = bool(address.path)
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
        found = self._idle.pop() if self._idle else None
        if found is not None and found.idle_s() > KEPT_S:
            found.close()
            return None
        return found

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

    def __init__(self, engine: EngineClient, request: bytes) -> None:
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
        """On a connection from before, which an engine at a port may have closed just as the
        request went out: then it is sent once more, on a new one."""
        kept = self._connection
        if kept is not None:
            try:
                await kept.head()
                return kept
            except EngineGone:
                if kept.heard or self._engine.is_door:
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
