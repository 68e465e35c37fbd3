"""An answer over HTTP for a thread that waits: a connection, a request out, its answer in.

httptools parses. Between a question and its answer a processor forgets what it ran before, and
each layer is paid anew: urllib3 and http.client took 0.4 of the 2.2 ms that a query then added
(benchmarks/client_overhead.py).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from client.ollama.callers import await_answer
from engines.http.answers import MOST_HELD, TOO_LONG, Answers, BadAnswer
from engines.http.headers import Headers
from engines.http.sockets import CONNECT_TIMEOUT_S, NOTICE_DEATH, connect

#: Seconds until both sides know who they are: more than for a connection, which a busy program's
#: kernel takes in its place.
_HANDSHAKE_S = 5.0
_PIECE = 65_536
_FIXED = b"Accept-Encoding: identity\r\nConnection: close\r\n"
_BODY = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class Server:
    """Whom to ask, at `host:port` or at a Unix socket; for any thread.

    It goes straight there: nothing looks at http_proxy.
    """

    def __init__(
        self, at: str | Path, headers: Headers = (), trust: ssl.SSLContext | None = None
    ) -> None:
        """`headers` go with each request; `trust`: whom, if it is asked by TLS."""
        self._at, self._trust = at, trust
        host = at if isinstance(at, str) else "localhost"
        fields = "".join(f"{name}: {value}\r\n" for name, value in (("Host", host), *headers))
        self._fields = fields.encode() + _FIXED

    def connect(self) -> socket.socket:
        """Return a connection. Raises OSError, of which ssl.SSLCertVerificationError says that
        somebody else is there; and UnicodeError for a host that cannot be a name."""
        if isinstance(self._at, Path):
            return _at_socket(self._at)
        host, _, port = self._at.rpartition(":")
        sock = connect(host, int(port), CONNECT_TIMEOUT_S)
        for option in NOTICE_DEATH:
            sock.setsockopt(*option)
        return sock if self._trust is None else _encrypted(sock, self._trust, host)

    def request(self, method: str, path: str, body: bytes | None, more: Headers = ()) -> bytes:
        """Return the bytes of a request; a body is JSON, and `more` go with this one alone."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in more).encode()
        head = f"{method} {path} HTTP/1.1\r\n".encode() + self._fields + fields
        if body is None:
            return head + b"\r\n"
        return head + _BODY % (len(body), body)


def _at_socket(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(CONNECT_TIMEOUT_S)
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def _encrypted(sock: socket.socket, trust: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    sock.settimeout(_HANDSHAKE_S)
    try:
        return trust.wrap_socket(sock, server_hostname=host)
    except TimeoutError as error:
        raise OSError(f"no TLS in {_HANDSHAKE_S:g} s") from error
    finally:
        sock.close()  # it is the other's now


class Response(Answers):
    """What comes back on a connection, which it closes at its end, or with `close`.

    `replica` is the address of who answers, if that is known; `retried`: whether it was sent
    before, and had no answer.
    """

    def __init__(self, sock: socket.socket, caller: socket.socket | None = None) -> None:
        """`caller` is where it goes: it is given up when that one has gone."""
        super().__init__()
        self.heard = False  # any byte
        self.replica, self.retried = "", False
        self._sock: socket.socket | None = sock
        self._caller, self._timeout_s = caller, 0.0
        self._body: list[bytes] = []

    def begin(self, request: bytes, timeout_s: float) -> None:
        """Send a request, and read until the status is known; `timeout_s` is for each wait.

        Raises OSError: TimeoutError without an errno if nothing came in time, CallerGone; and
        BadAnswer.
        """
        assert self._sock is not None
        self._timeout_s = timeout_s
        self._sock.settimeout(timeout_s)
        self._sock.sendall(request)
        while not self.status:
            self._receive()
        why = self.unreadable()
        if why is not None and self.status in (101, 200):
            raise BadAnswer(why)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives. Raises as `begin` does."""
        while True:
            if self._body:
                body, self._body = self._body, []
                yield b"".join(body)
            elif self.over:
                return self.close()
            else:
                self._receive()

    def read(self) -> bytes:
        """Return the whole body. Raises as `begin` does."""
        pieces, size = [], 0
        for piece in self.pieces():
            pieces.append(piece)
            size += len(piece)
            if size > MOST_HELD:
                raise BadAnswer(TOO_LONG)
        return b"".join(pieces)

    def close(self) -> None:
        """Close it; whatever is still to come is not read. Any number of times."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _receive(self) -> None:
        if self._sock is None:
            raise ConnectionAbortedError("it was given up")
        if self._caller is not None:
            await_answer(self._sock, self._caller, self._timeout_s)
        data = self._sock.recv(_PIECE)
        if not data:
            if not self.ends_with_connection:
                raise ConnectionResetError("the connection was closed")
            self.over = True
            return
        self.heard = True
        self.feed(data)

    # --- what the answer is ---

    def answer_begins(self) -> None:
        """The status is known."""

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self.over:
            self._body.append(body)

    def answer_ends(self) -> None:
        """The answer is over."""
