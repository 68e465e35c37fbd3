"""Keep-alive connections to an Ollama, for threads that wait: a request out, its answer in.

httptools parses. Between a question and its answer a processor forgets what it ran before, and
each layer is paid anew: urllib3 and http.client took 0.4 of the 2.2 ms that a query then added
(benchmarks/client_overhead.py).
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Iterator

from client.ollama.callers import await_answer
from engines.http.answers import MOST_HELD, TOO_LONG, Answers, BadAnswer
from engines.http.headers import Headers
from engines.http.sockets import NOTICE_DEATH, connect

#: Seconds until both sides know who they are: more than for a connection, which a busy program's
#: kernel takes in its place.
_HANDSHAKE_S = 5.0
_PIECE = 65_536
_ACCEPT = b"Accept-Encoding: identity\r\n"
_BODY = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class ConnectionPool:
    """To one address, `host:port`; any number of threads, each with its own connection.

    It goes straight there: nothing looks at http_proxy.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float,
        headers: Headers = (),
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`timeout_s` is how long making a connection may take; `headers` go with each request;
        `trust`: whom, if it is asked by TLS."""
        host, _, port = address.rpartition(":")
        self._to = host, int(port)
        self._trust = trust
        self._timeout_s = timeout_s
        fields = "".join(f"{name}: {value}\r\n" for name, value in (("Host", address), *headers))
        self._fields = fields.encode() + _ACCEPT
        self._idle: deque[socket.socket] = deque()  # the last used first

    def acquire(self) -> socket.socket | None:
        """Return one from before that stands; None if there is none."""
        while (sock := self._last_used()) is not None:
            if _is_quiet(sock):
                return sock
            sock.close()
        return None

    def open(self) -> socket.socket:
        """Return a new one. Raises OSError, of which ssl.SSLCertVerificationError says that
        somebody else is there; and UnicodeError for a host that cannot be a name."""
        sock = connect(*self._to, self._timeout_s)
        for option in NOTICE_DEATH:
            sock.setsockopt(*option)
        return sock if self._trust is None else _encrypted(sock, self._trust, self._to[0])

    def request(self, method: str, path: str, body: bytes | None) -> bytes:
        """Return the bytes of a request; a body is JSON."""
        head = f"{method} {path} HTTP/1.1\r\n".encode() + self._fields
        if body is None:
            return head + b"\r\n"
        return head + _BODY % (len(body), body)

    def release(self, sock: socket.socket) -> None:
        """Keep it for the next request: the answer before has been read to its end."""
        self._idle.append(sock)

    def _last_used(self) -> socket.socket | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _encrypted(sock: socket.socket, trust: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    sock.settimeout(_HANDSHAKE_S)
    try:
        return trust.wrap_socket(sock, server_hostname=host)
    except TimeoutError as error:
        raise OSError(f"no TLS in {_HANDSHAKE_S:g} s") from error
    finally:
        sock.close()  # it is the other's now


def _is_quiet(sock: socket.socket) -> bool:
    """Whether it stands; nothing was asked, so that what can be read there is its end. TLS has
    things of its own to read, which are none."""
    sock.setblocking(False)
    try:
        sock.recv(1, 0 if isinstance(sock, ssl.SSLSocket) else socket.MSG_PEEK)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        pass
    return False


class Response(Answers):
    """What comes back on a connection. It holds the connection until its end, or `close`."""

    def __init__(
        self,
        connections: ConnectionPool,
        sock: socket.socket,
        caller: socket.socket | None = None,
    ) -> None:
        """`caller` is where it goes: it is given up when that one has gone."""
        super().__init__()
        self.heard = False  # any byte
        self._connections = connections
        self._sock: socket.socket | None = sock
        self._caller, self._timeout_s = caller, 0.0
        self._body: list[bytes] = []
        self._keep = False  # the connection, for the next request

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
        if self._keep and not self.surplus:
            self._connections.release(self._sock)
            self._sock = None

    # --- what the answer is ---

    def answer_begins(self) -> None:
        """The status is known."""

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self.over:
            self._body.append(body)

    def answer_ends(self) -> None:
        """The answer is over. What the parser knows of the connection, it forgets after this."""
        self._keep = self._parser.should_keep_alive()
