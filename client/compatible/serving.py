"""Serves requests with a handler, as a process of its own does it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from client.compatible.http_server import ClientConnection, Handler
from client.compatible.socket_address import SocketAddress
from contracts.errors import ServiceError
from engines.http.sockets import own_socket

#: Connections that wait to be taken: many clients may begin at once.
_BACKLOG = 4096

#: Objects that are made until the first generation of them is looked through; requests have no
#: circles, and some hundred of them at once have thousands of objects.
_ALLOCATIONS = 50_000


async def serve(listen: SocketAddress, handler: Handler) -> None:
    """Serve until SIGTERM or SIGINT. Raises ServiceError: it cannot listen there."""
    _all_files()
    gc.freeze()  # what is there by now stays; no collection walks it while a chunk waits
    gc.set_threshold(_ALLOCATIONS)
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    connections: set[ClientConnection] = set()
    server = await _listening(listen, lambda: ClientConnection(handler, connections))
    shown = f"{listen}" if listen.path else "{}:{}".format(*server.sockets[0].getsockname()[:2])
    print(f"listening on {shown}", flush=True)  # noqa: T201
    await stopped.wait()
    server.close()
    for connection in tuple(connections):
        connection.abort()
    if listen.path:
        with contextlib.suppress(OSError):
            Path(listen.path).unlink()


async def _listening(
    listen: SocketAddress, protocol: Callable[[], asyncio.Protocol]
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        if listen.path:
            sock = own_socket(Path(listen.path))
            return await loop.create_unix_server(protocol, sock=sock, backlog=_BACKLOG)
        return await loop.create_server(protocol, listen.host, listen.port, backlog=_BACKLOG)
    except OSError as error:
        raise ServiceError(f"It cannot listen at {listen}: {error}.") from error


def _all_files() -> None:
    """Two descriptors for each answer under way: as many as we may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
