"""Who watches: GET /state and GET /events, served at a socket by one thread, which is none of those
that answer requests. The door passes both on to it (lib/door.cfg)."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from client.compatible.errors import NotFound, WrongMethod
from client.compatible.http_server import JSON, ClientConnection, Request
from client.live.collector import Collector, whole
from client.live.series import Recorder
from contracts.live.state import POINT, STEP_S, WHOLE
from engines.http.sockets import own_socket

EVENTS = "text/event-stream; charset=utf-8"
#: Seconds between looks while somebody watches, and between signs of life.
LOOK_S, COMMENT_S = 1.0, 15.0
_COMMENT = b": still here\n\n"
T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Viewer:
    """Somebody who takes events. Who is slow to take them is let go: he comes again, and gets the
    whole state."""

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self.gone = asyncio.Event()
        client.on_gone = self.gone.set

    def send(self, event: bytes) -> None:
        """Send an event."""
        if not self.gone.is_set():
            self._client.write(event)

    def pause(self) -> None:
        """He takes less than comes."""
        self.gone.set()
        asyncio.get_running_loop().call_soon(self._client.abort)

    def resume(self) -> None:
        """He has been let go before."""


class Hub:
    """All who watch."""

    def __init__(self, collector: Collector, recorder: Recorder, at: Path) -> None:
        """`at`: the socket."""
        self._collector, self._recorder, self._at = collector, recorder, at
        self._viewers: set[_Viewer] = set()
        self._parts: dict[str, bytes] = {}
        self._looked_at = -LOOK_S
        self._spoke_at = 0.0
        self._step = 0
        self._failed = ""  # by what the last turn did
        self._pool = ThreadPoolExecutor(1)  # what waits for files and engines

    def follow(self) -> None:
        """Serve from now on, beside everything else. Raises OSError."""
        sock = own_socket(self._at)
        threading.Thread(target=lambda: asyncio.run(self._serve(sock)), daemon=True).start()

    async def _serve(self, sock: socket.socket) -> None:
        self._looking, self._came = asyncio.Lock(), asyncio.Event()
        connections: set[ClientConnection] = set()
        await asyncio.get_running_loop().create_unix_server(
            lambda: ClientConnection(self._handle, connections), sock=sock
        )
        while True:
            await self._turn()
            wait = LOOK_S if self._viewers else STEP_S - time.time() % STEP_S
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), wait)
            except asyncio.TimeoutError:
                continue

    async def _turn(self) -> None:
        """What is done each second, or each step if nobody watches."""
        try:
            if (step := int(time.time() // STEP_S)) != self._step:
                self._step = step
                await self._in_thread(self._collector.count)
                self._point()
            if self._viewers:
                await self._look()
            self._failed = ""
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this turn's alone
            if repr(error) != self._failed:  # a turn is a second
                self._failed, odd = repr(error), not isinstance(error, OSError)
                _log.warning("the live state could not be looked up: %s", error, exc_info=odd)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _look(self) -> None:
        """Look everything up, unless that was just now, and tell what has changed."""
        async with self._looking:
            if time.monotonic() - self._looked_at < LOOK_S / 2:
                return
            before = self._parts
            found = await self._in_thread(self._collector.look)
            self._parts, self._looked_at = found, time.monotonic()
        for key, part in found.items():
            if before.get(key) != part:
                self._tell(_event(key, part))
        if time.monotonic() - self._spoke_at >= COMMENT_S:
            self._tell(_COMMENT)

    def _point(self) -> None:
        """Tell of the step that is over; of all if others have changed since."""
        point = self._recorder.last()
        if point is None or not self._viewers:
            return
        if self._recorder.changed and (series := self._recorder.whole()) is not None:
            self._tell(_event("series", series.model_dump_json().encode()))
        else:
            self._tell(_event(POINT, point.model_dump_json().encode()))

    def _tell(self, event: bytes) -> None:
        self._spoke_at = time.monotonic()
        for viewer in tuple(self._viewers):
            viewer.send(event)

    def _whole(self) -> bytes:
        series = self._recorder.whole()
        told = b"null" if series is None else series.model_dump_json().encode()
        return whole({**self._parts, "series": told})

    # --- requests ---

    def _handle(
        self, request: Request, client: ClientConnection
    ) -> Coroutine[object, object, None]:
        path = request.target.partition("?")[0]
        if path not in ("/state", "/events"):
            raise NotFound(f"Unknown request URL: {request.method} {path[:200]}.")
        if request.method != "GET":
            raise WrongMethod(f"Not allowed to {request.method} on {path} (HINT: GET).")
        return self._state(client) if path == "/state" else self._events(client)

    async def _state(self, client: ClientConnection) -> None:
        await self._look()
        client.send(200, JSON, self._whole(), {"Cache-Control": "no-store"})
        if not self._viewers:
            await self._in_thread(self._collector.rest)

    async def _events(self, client: ClientConnection) -> None:
        viewer = _Viewer(client)
        await self._look()
        client.begin(200, EVENTS, viewer)
        client.write(_event(WHOLE, self._whole()))
        self._viewers.add(viewer)
        self._came.set()
        try:
            await viewer.gone.wait()
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._pool.submit(self._collector.rest)


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
