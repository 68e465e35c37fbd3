"""HTTP to one Ollama: an answer, or what went wrong in a sentence with its kind."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import (
    Busy,
    ModelMissing,
    OllamaFailed,
    Refused,
    RequestError,
    TooSlow,
    Unanswered,
    Unreachable,
)
from client.ollama.callers import CallerGone
from client.ollama.connection_pool import ConnectionPool, Response
from client.ollama.streams import json_object
from contracts.json_object import JsonObject
from engines.http.answers import BadAnswer
from engines.http.headers import Headers
from engines.http.sockets import CONNECT_TIMEOUT_S, host_is_gone, in_words, is_our_limit
from engines.http.tls import context_of, tls_error_words
from engines.json_values import error_text
from engines.ollama import (
    EMBED,
    GENERATE,
    NO_SUCH_MODEL,
    QUEUE_FULL,
    SHOW,
    VERSION,
    error_of,
    is_final,
)

CHECK_TIMEOUT_S = 5.0


class OllamaClient:
    """Sends requests to an address, `host:port`. `exit_sentence` says how its job has ended;
    `headers` go with each request; `authority`: the certificate of who signs for all addresses, if
    they speak TLS."""

    def __init__(
        self,
        exit_sentence: Callable[[], str],
        headers: Headers = (),
        authority: Path | None = None,
    ) -> None:
        """Raises UsageError if the authority's certificate cannot be used."""
        self._connections: dict[str, ConnectionPool] = {}
        self._exit_sentence = exit_sentence
        self._headers = headers
        self._trust = None if authority is None else context_of(str(authority))

    def check(self, address: str) -> None:
        """Return if it answers. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        self.get(address, VERSION)

    def get(self, address: str, path: str) -> JsonObject:
        """Return a JSON object. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        data = self._whole("GET", address, path, None, CHECK_TIMEOUT_S)
        return json_object(data, f"Ollama's answer to {path}")

    def generate(
        self, address: str, body: bytes, timeout_s: float, caller: socket.socket | None = None
    ) -> JsonObject:
        """Return the whole answer; if there is a `caller`, for as long as he waits. Raises
        Unanswered, Unreachable, TooSlow, OllamaFailed, Busy, CallerGone."""
        data = self._whole("POST", address, GENERATE, body, timeout_s, caller)
        answer = json_object(data, "Ollama's answer")
        error = error_of(answer)
        if error is not None:
            raise OllamaFailed(f"Ollama at {address} failed: {error[:500]}")
        if not is_final(answer):
            raise OllamaFailed(f"Ollama at {address} gave no whole answer: {data[:100]!r}.")
        return answer

    def embed(self, address: str, body: bytes, timeout_s: float) -> JsonObject:
        """Return the answer of /api/embed. Raises as `generate` does."""
        data = self._whole("POST", address, EMBED, body, timeout_s)
        return json_object(data, "Ollama's answer")

    def show(self, address: str, body: bytes) -> JsonObject:
        """Return the answer of /api/show, for which Ollama reads the model. Raises like `get`."""
        data = self._whole("POST", address, SHOW, body, CHECK_TIMEOUT_S)
        return json_object(data, f"Ollama's answer to {SHOW}")

    def begin(
        self, address: str, body: bytes, timeout_s: float, caller: socket.socket | None = None
    ) -> Response:
        """Return an answer of which only the head has been read. Raises as `generate` does."""
        return self._send("POST", address, GENERATE, body, timeout_s, caller)

    def _whole(
        self,
        method: str,
        address: str,
        path: str,
        body: bytes | None,
        wait_s: float,
        caller: socket.socket | None = None,
    ) -> bytes:
        answer = self._send(method, address, path, body, wait_s, caller)
        with self._in_words(answer, address, wait_s):
            return answer.read()

    def _send(
        self,
        method: str,
        address: str,
        path: str,
        body: bytes | None,
        wait_s: float,
        caller: socket.socket | None,
    ) -> Response:
        connections = self._to(address)
        request = connections.request(method, path, body)
        answer = self._on_kept(connections, request, address, wait_s, caller)
        if answer is None:
            answer = Response(connections, self._new(connections, address), caller)
            with self._in_words(answer, address, wait_s):
                answer.begin(request, wait_s)
        if answer.status != 200:
            raise _refusal(address, answer)
        return answer

    def _on_kept(
        self,
        connections: ConnectionPool,
        request: bytes,
        address: str,
        wait_s: float,
        caller: socket.socket | None,
    ) -> Response | None:
        """An answer on a connection from before; None if there is none, or it was closed before
        a byte came: servers close idle ones when they like, also just then."""
        sock = connections.acquire()
        if sock is None:
            return None
        answer = Response(connections, sock, caller)
        try:
            with self._in_words(answer, address, wait_s):
                answer.begin(request, wait_s)
        except Unanswered:
            return None
        if answer.closed_idle:
            answer.close()
            return None
        return answer

    def _new(self, connections: ConnectionPool, address: str) -> socket.socket:
        try:
            return connections.open()
        except ssl.SSLCertVerificationError as error:
            shown = error.verify_message.rstrip(".")
            what = f"was asked nothing: it shows a certificate of somebody else's ({shown})"
            raise Unanswered(self._about(address, what)) from error
        except (OSError, UnicodeError) as error:
            why = self._about(address, f"does not answer ({_why(error)})")
            raise Unanswered(why) from error

    def _to(self, address: str) -> ConnectionPool:
        found = self._connections.get(address)
        if found is None:
            new = ConnectionPool(address, CONNECT_TIMEOUT_S, self._headers, self._trust)
            found = self._connections.setdefault(address, new)
        return found

    @contextmanager
    def _in_words(self, answer: Response, address: str, wait_s: float) -> Iterator[None]:
        """Failures on the way as ours; they end the connection."""
        try:
            yield
        except CallerGone:
            answer.close()
            raise
        except BadAnswer as error:
            answer.close()
            raise OllamaFailed(self._about(address, str(error))) from error
        except OSError as error:
            answer.close()
            cut = Unreachable if answer.heard else Unanswered
            if host_is_gone(error):
                raise cut(self._about(address, "is gone: its host does not answer")) from error
            if is_our_limit(error):
                waited = f"{round(wait_s, 1):g} s"
                raise TooSlow(self._about(address, f"did not answer in {waited}")) from error
            raise cut(self._about(address, "closed the connection")) from error

    def _about(self, address: str, what: str) -> str:
        return f"Ollama at {address} {what}. {self._exit_sentence()}".rstrip()


def _refusal(address: str, answer: Response) -> RequestError:
    """Ollama's own words."""
    try:
        text = error_text(answer.read(), most=500)
    except OSError:
        answer.close()
        text = ""
    words = answer.refusal(text)
    return _kind(answer.status)(f"Ollama at {address} answered {answer.status}: {words}")


def _kind(status: int) -> type[RequestError]:
    if status == QUEUE_FULL:
        return Busy
    if status == NO_SUCH_MODEL:
        return ModelMissing
    return Refused if 400 <= status < 500 else OllamaFailed


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "no name of a host"
    if is_our_limit(error):
        return f"no connection in {CONNECT_TIMEOUT_S:g} s"
    return tls_error_words(error) if isinstance(error, ssl.SSLError) else in_words(error)
