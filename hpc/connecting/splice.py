"""A local port that stays: each connection goes on to the door, wherever that is at the time.

No byte is changed. Two things are read: an answer's header `orch-address`, by which a door says
that it has a successor; and whether a client begins another request on a connection that it has
kept, which then goes to the newest door. (What TLS hides, stays with the door it began with.)
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
#: Seconds for which a connection waits for a door: as long as ssh takes to be there again.
PATIENCE_S = 60.0
#: Seconds until a door that has refused a connection is tried again.
AGAIN_S = 1.0
_CHUNK = 65536
_REQUEST = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/1\.[01]\r\n")
_SUCCESSOR = b"\norch-address:"
_BODY = b'{"error":{"type":"unavailable","message":"orch.py --connect does not reach the door."}}'
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NoDoor(Exception):
    """No door was to be had for as long as a connection waits."""


@dataclass(frozen=True)
class Route:
    """A way to a door: a socket that ssh forwards there, or the door's own host and port."""

    host: str
    port: int
    socket: str | None = None

    async def open(self) -> _Streams:
        """Raises OSError."""
        if self.socket is not None:
            return await asyncio.open_unix_connection(self.socket, limit=_CHUNK)
        return await asyncio.open_connection(self.host, self.port, limit=_CHUNK)


class Splice:
    """The port, and its connections. `on_doubt` is called if the door says that it has a successor,
    or does not answer."""

    def __init__(self, on_doubt: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
        self.on_doubt = on_doubt
        self.port = 0
        self._patience_s = patience_s
        self._route: Route | None = None
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def route(self) -> Route | None:
        """Where new requests go; None if that is not known now, and they wait."""
        return self._route

    @route.setter
    def route(self, route: Route | None) -> None:
        self._route = route
        self._changed.set()
        self._changed = asyncio.Event()

    async def listen(self, wanted: int) -> None:
        """Take the port that is wanted, or another one if somebody has it. Raises OSError."""
        try:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, wanted)
        except OSError:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close the port and all its connections."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def door(self) -> tuple[Route, _Streams]:
        """The newest door, opened. Raises NoDoor if there is none for so long."""
        try:
            return await asyncio.wait_for(self._newest(), self._patience_s)
        except asyncio.TimeoutError as error:
            raise NoDoor from error

    async def _newest(self) -> tuple[Route, _Streams]:
        while True:
            changed, route = self._changed, self._route
            if route is not None:
                with contextlib.suppress(OSError):
                    return route, await route.open()
                self.on_doubt()
            with contextlib.suppress(asyncio.TimeoutError):  # it may be there again, where it was
                await asyncio.wait_for(changed.wait(), AGAIN_S)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_Connection(self, reader, writer).serve())
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)


class _Connection:
    """One of a client's, and the door's that its bytes go to."""

    def __init__(
        self, splice: Splice, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._splice = splice
        self._reader, self._writer = reader, writer
        self._route: Route | None = None
        self._door: asyncio.StreamWriter | None = None
        self._answers: asyncio.Task[None] | None = None
        #: Whether the door has the last word: nothing has come from the client since.
        self._answered = False

    async def serve(self) -> None:
        """Pass on until both have closed."""
        try:
            while chunk := await self._reader.read(_CHUNK):
                door = await self._door_for(chunk)
                self._answered = False
                door.write(chunk)
                await door.drain()
            if self._door is not None and self._answers is not None:
                self._door.write_eof()
                await self._answers
        except NoDoor:
            self._writer.write(_UNAVAILABLE)
        except OSError:  # one of the two has gone
            pass
        finally:
            await self._leave_door()
            await _close(self._writer)

    async def _door_for(self, chunk: bytes) -> asyncio.StreamWriter:
        """The door that these bytes are for. Raises NoDoor."""
        moved = self._route is not self._splice.route
        if self._door is not None and not (moved and self._answered and _REQUEST.match(chunk)):
            return self._door
        await self._leave_door()
        self._route, (reader, self._door) = await self._splice.door()
        self._answers = asyncio.create_task(self._pass_answers(reader))
        return self._door

    async def _pass_answers(self, reader: asyncio.StreamReader) -> None:
        silent = True
        try:
            while chunk := await reader.read(_CHUNK):
                silent, self._answered = False, True
                if _SUCCESSOR in chunk.lower():
                    self._splice.on_doubt()
                self._writer.write(chunk)
                await self._writer.drain()
        except OSError:  # one of the two has gone
            pass
        if silent:
            self._splice.on_doubt()
        self._writer.close()

    async def _leave_door(self) -> None:
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.gather(self._answers, return_exceptions=True)
        if self._door is not None:
            await _close(self._door)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
