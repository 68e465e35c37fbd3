"""One connection to the engine, and the answer that comes on it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from client.compatible.errors import ApiError, EngineFailed, EngineGone, TooSlow
from engines.http.answers import MOST_HELD, TOO_LONG, Answers, BadAnswer
from engines.http.sockets import NOTICE_DEATH, in_words

#: Idle connections that are kept at most.
MOST_IDLE = 1024


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
        self._idle_since = 0.0
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
            self._idle_since = self._loop.time()
            self._idle.append(self)
        else:
            self.close()

    def idle_s(self) -> float:
        """Return how long it has been kept for the next request, in seconds."""
        return self._loop.time() - self._idle_since

    def close(self) -> None:
        """Close it."""
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
        """A piece of the body. Of an error that leaves this, the parser keeps no word."""
        if self.over or self._failure is not None:
            return
        if self._sink is None:
            self._held.append(body)
            return
        try:
            self._sink(body)
        except ApiError as error:
            self._fail(error)

    def answer_ends(self) -> None:
        """It has come whole. What the parser knows of the connection, it forgets after this."""
        self._keep = self._parser.should_keep_alive()
        self._wake()
