"""A proxy for CONNECT alone, on a Unix socket: the way out of an engine's network to a registry.

    python3 way_out.py SOCKET

seal.sh starts it while a model is fetched. $https_proxy, if there is one, is asked in its turn.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 30
_PIECE = 65_536


async def serve(path: str) -> None:
    """Serve at a socket that nobody else may use, until told to end."""
    os.umask(0o177)
    server = await asyncio.start_unix_server(_pass_on, f"{path}.new")
    Path(f"{path}.new").rename(path)  # where it is, somebody listens
    await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there = await asyncio.wait_for(_connect(reader, writer), CONNECT_TIMEOUT_S)
    except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
        writer.write(f"HTTP/1.1 502 {_words(error)}\r\n\r\n".encode())
        writer.close()
    else:
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))


def _words(error: Exception) -> str:
    """What whoever asked says in the end. Of a refused connection asyncio has words of its own."""
    if isinstance(error, socket.gaierror):  # its numbers are not the kernel's
        return str(error.strerror)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or "no connection in time"


async def _connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to what a request names, or to the proxy, which answers itself."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.decode("latin-1").split(" ", 2)
    if method != "CONNECT":
        raise OSError("only https is passed on")
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if proxy:
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        there = await asyncio.open_connection(parts.hostname, parts.port or 3128)
        there[1].write(head)
        return there
    host, _, port = target.rpartition(":")
    there = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    return there


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass  # one of the two has gone away, which the other is told
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
