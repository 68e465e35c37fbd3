"""HTTP to the server that answers: a door of a deployment, its own socket, or any other server."""

from __future__ import annotations

import http.client
import secrets
import select
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import ServiceError, UsageError
from contracts.json_object import JsonObject
from engines.engine import BadUrl
from engines.http.asking import FinalResponse, http_client, why_unreadable
from engines.http.headers import Headers, Mask, headers_of
from engines.http.sockets import NOTICE_DEATH, UNIX, in_words
from engines.http.tls import context_of, tls_error_words
from engines.http.urls import parse, presentable
from engines.json_values import error_text, object_of, object_or_empty
from engines.registry import RETRIEVAL

#: Bytes of an answer that are read at most.
MOST_OF_AN_ANSWER = 67_108_864
#: Seconds until a connection is there, until a question about the server itself is answered, and
#: until an answer is: a door has limits of its own, and a node that is gone is noticed before.
CONNECT_S, ASK_S, ANSWER_S = 10.0, 10.0, 3600.0
_PRIORITY = ("orch-priority", "batch")
#: By which a door tells the batches that ask it how much room there is.
_NAME = "orch-batch"


class NotReached(OSError):
    """No connection: nothing was asked. The text says why."""


class NoAnswer(OSError):
    """The connection broke, or what came is no answer. `code`: its class."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class WrongDoor(ServiceError):
    """Nobody will ever be answered there as things are: no TLS, or no token that is right."""


@dataclass(frozen=True)
class Reply:
    """An answer of HTTP. `words`: the server's own, without our secrets, if it is no success;
    `retry_after`: seconds that it asks one to wait."""

    status: int
    json: JsonObject
    words: str
    request_id: str | None
    retry_after: float | None


class _UnixConnection(http.client.HTTPConnection):
    """HTTP by a socket of the file system."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self.response_class = FinalResponse

    def connect(self) -> None:
        """Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Door:
    """Where requests go. `shown`: the address as it may be said."""

    def __init__(self, url: str, token_file: Path | None, ca: str | None) -> None:
        """Raises UsageError. Its `warnings` are sentences about files that others can read."""
        self.headers: Headers
        self.headers, self.warnings = headers_of((), token_file, "", {})
        self._mask, self._ca, self._path = Mask(self.headers), ca, ""
        self.asks_as = {_NAME: secrets.token_hex(8)}
        if url.startswith(UNIX):
            self._path = url.removeprefix(UNIX)
            self.shown, self.root = url, ""
            if not self._path:
                raise UsageError("--url unix: names no socket: give unix:PATH.")
            return
        try:
            base = parse(url, RETRIEVAL)
        except BadUrl as error:
            raise UsageError(f"--url {presentable(url)} {error}, or unix:PATH.") from error
        self._base, self.shown = base, base.shown
        self.root = base.root.removesuffix("/v1")
        if base.secure:
            context_of(ca)  # what is wrong with it is said at once

    def connection(self) -> Connection:
        """Return a connection of its own; it is made when something is asked."""
        return Connection(self)

    def new(self) -> http.client.HTTPConnection:
        """Raises NotReached, and WrongDoor if there can be no TLS."""
        connection = (
            _UnixConnection(self._path, CONNECT_S)
            if self._path
            else http_client(
                self._base.secure, self._base.host, self._base.port, CONNECT_S, self._ca
            )
        )
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise WrongDoor(f"{self.shown} cannot be asked: {tls_error_words(error)}.") from error
        except (OSError, UnicodeError) as error:
            why = in_words(error) if isinstance(error, OSError) else str(error)
            raise NotReached(why) from error
        if not self._path:
            for option in NOTICE_DEATH:
                connection.sock.setsockopt(*option)
        return connection

    def reply_of(self, response: http.client.HTTPResponse, data: bytes) -> Reply:
        """Return the answer. Raises NoAnswer if it is a success that cannot be read."""
        success = 200 <= response.status < 300
        unreadable = why_unreadable(response)
        if success:
            if unreadable:
                raise NoAnswer("bad_answer", self._mask(unreadable))
            try:
                found = object_of(data)
            except (ValueError, RecursionError) as error:
                raise NoAnswer("bad_answer", "what it answered is no JSON object") from error
        else:
            found = object_or_empty(data)
        words = unreadable or error_text(data) or response.reason
        return Reply(
            response.status,
            found,
            "" if success else self._mask(words).rstrip("."),
            response.getheader("x-request-id"),
            _seconds(response.getheader("retry-after")),
        )


class Connection:
    """One connection, kept between requests; for one thread."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._kept: http.client.HTTPConnection | None = None

    def get(self, path: str) -> Reply:
        """Ask the server about itself. Raises NotReached, NoAnswer, WrongDoor."""
        return self._ask("GET", path, None, self.door.asks_as, ASK_S)

    def post(self, path: str, body: bytes) -> Reply:
        """Ask for an answer. Raises NotReached, NoAnswer, WrongDoor."""
        headers = dict([("Content-Type", "application/json"), _PRIORITY])
        return self._ask("POST", path, body, headers, ANSWER_S)

    def _ask(
        self, method: str, path: str, body: bytes | None, more: dict[str, str], limit_s: float
    ) -> Reply:
        connection = self._connected()
        connection.sock.settimeout(limit_s)
        try:
            headers = {**dict(self.door.headers), **more}
            connection.request(method, self.door.root + path, body, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _no_answer(error) from error
        return self._read(response)

    def _connected(self) -> http.client.HTTPConnection:
        """The kept one, if the server has not ended it meanwhile: nothing comes without being
        asked for but its end."""
        if self._kept is not None:
            poll = select.poll()
            poll.register(self._kept.sock, select.POLLIN)
            if poll.poll(0):
                self.close()
        if self._kept is None:
            self._kept = self.door.new()
        return self._kept

    def _read(self, response: http.client.HTTPResponse) -> Reply:
        try:
            data = response.read(MOST_OF_AN_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _no_answer(error) from error
        if len(data) > MOST_OF_AN_ANSWER:
            self.close()
            raise NoAnswer("bad_answer", f"it answered more than {MOST_OF_AN_ANSWER >> 20} MiB")
        if response.will_close:
            self.close()
        return self.door.reply_of(response, data)

    def close(self) -> None:
        """Close it."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _no_answer(error: OSError | http.client.HTTPException) -> NoAnswer:
    if isinstance(error, TimeoutError) and not error.errno:
        return NoAnswer("timeout", "no answer came in time")
    if isinstance(error, OSError) and not isinstance(error, http.client.RemoteDisconnected):
        return NoAnswer("connection", f"the connection broke: {in_words(error)}")
    if isinstance(error, (http.client.RemoteDisconnected, http.client.IncompleteRead)):
        return NoAnswer("connection", "the connection ended before the answer")
    return NoAnswer("bad_answer", f"what it sends is not HTTP ({type(error).__name__})")


def _seconds(text: str | None) -> float | None:
    """Of Retry-After; as a date it says nothing that is worth a parser here."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
