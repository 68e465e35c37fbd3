"""Keep-alive connections to an Ollama, for threads that wait: a request out, its answer in.

httptools parses. Between a question and its answer a processor forgets what it ran before, and
each layer is paid anew: urllib3 and http.client took 0.4 of the 2.2 ms that a query then added
(benchmarks/client_overhead.py).
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator

import httptools

from loadgen.sockets import NOTICE_DEATH

_PIECE = 65_536
_BODY = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class NoHttp(OSError):
    """What came is not HTTP."""


class Connections:
    """To one address, `host:port`; any number of threads, each with its own connection.

    It goes straight there: nothing looks at http_proxy.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        """`timeout_s` is how long making a connection may take."""
        host, _, port = address.rpartition(":")
        self._to = host, int(port)
        self._timeout_s = timeout_s
        self._host = f"Host: {address}\r\n".encode()
        self._idle: deque[socket.socket] = deque()  # the last used first

    def take(self) -> socket.socket:
        """One that stands, from before or new. Raises OSError, and UnicodeError for a host that
        cannot be a name."""
        while (sock := self._last_used()) is not None:
            if _is_quiet(sock):
                return sock
            sock.close()
        sock = socket.create_connection(self._to, self._timeout_s)
        for option in NOTICE_DEATH:
            sock.setsockopt(*option)
        return sock

    def request(self, method: str, path: str, body: bytes | None) -> bytes:
        """The bytes of a request; a body is JSON."""
        head = f"{method} {path} HTTP/1.1\r\n".encode() + self._host
        if body is None:
            return head + b"\r\n"
        return head + _BODY % (len(body), body)

    def give_back(self, sock: socket.socket) -> None:
        """For the next request: the answer before has been read to its end."""
        self._idle.append(sock)

    def _last_used(self) -> socket.socket | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _is_quiet(sock: socket.socket) -> bool:
    """Whether it stands; nothing was asked, so that what can be read there is its end."""
    sock.setblocking(False)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


class Answer:
    """What comes back on a connection. It holds the connection until its end, or `close`."""

    def __init__(self, connections: Connections, sock: socket.socket) -> None:
        self.status = 0
        self.heard = False  # any byte
        self._connections = connections
        self._sock: socket.socket | None = sock
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._over = False

    def begin(self, request: bytes, timeout_s: float) -> None:
        """Send a request, and read until the status is known; `timeout_s` is for each wait.

        Raises OSError: TimeoutError without an errno where nothing came in time, NoHttp.
        """
        assert self._sock is not None
        self._sock.settimeout(timeout_s)
        self._sock.sendall(request)
        while not self.status:
            self._receive()

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Raises as `begin` does."""
        while True:
            if self._body:
                body, self._body = self._body, []
                yield b"".join(body)
            elif self._over:
                return self.close()
            else:
                self._receive()

    def read(self) -> bytes:
        """The whole body. Raises as `begin` does."""
        return b"".join(self.pieces())

    def close(self) -> None:
        """Whatever is still to come is not read. Any number of times."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _receive(self) -> None:
        if self._sock is None:
            raise ConnectionAbortedError("it was given up")
        data = self._sock.recv(_PIECE)
        if not data:
            raise ConnectionResetError("the connection was closed")
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise NoHttp(str(error)) from error

    # --- httptools' calls ---

    def on_headers_complete(self) -> None:
        """The status is known."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is over. What the parser knows of the connection, it forgets after this."""
        self._over = True
        if self._sock is not None and self._parser.should_keep_alive():
            self._connections.give_back(self._sock)
            self._sock = None
