"""HTTP to one replica: an answer, or what went wrong in a sentence with its kind."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from client.engine_apis.interface import EngineApi
from client.engine_apis.ollama import OllamaApi
from client.errors import (
    OllamaFailed,
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
from engines.ollama import EMBED, error_of, is_final

CHECK_TIMEOUT_S = 5.0


class ReplicaClient:
    """Sends requests to an address, `host:port`. `exit_sentence` says how its job has ended;
    `headers` go with each request; `authority`: the certificate of who signs for all addresses, if
    they speak TLS."""

    def __init__(
        self,
        exit_sentence: Callable[[], str],
        headers: Headers = (),
        authority: Path | None = None,
        api: EngineApi | None = None,
    ) -> None:
        """`api`: of the engine; None: Ollama's. Raises UsageError if the authority's certificate
        cannot be used."""
        self._api = api or OllamaApi()
        self._connections: dict[str, ConnectionPool] = {}
        self._exit_sentence = exit_sentence
        self._headers = headers
        self._trust = None if authority is None else context_of(str(authority))

    def get(self, address: str, path: str) -> JsonObject:
        """Return a JSON object. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        data = self._whole("GET", address, path, None, CHECK_TIMEOUT_S)
        return json_object(data, f"The answer of {self._api.name} to {path}")

    def generate(
        self, address: str, body: bytes, timeout_s: float, caller: socket.socket | None = None
    ) -> JsonObject:
        """Return the whole answer to a query, as Ollama has it; if there is a `caller`, for as
        long as he waits. Raises Unanswered, Unreachable, TooSlow, OllamaFailed, Busy,
        CallerGone."""
        data = self._whole("POST", address, self._api.path, body, timeout_s, caller)
        answer = json_object(self._api.whole(data), f"The answer of {self._api.name}")
        error = error_of(answer)
        if error is not None:
            raise OllamaFailed(f"{self._api.name} at {address} failed: {error[:500]}")
        if not is_final(answer):
            words = f"{self._api.name} at {address} gave no whole answer: {data[:100]!r}."
            raise OllamaFailed(words)
        return answer

    def embed(self, address: str, body: bytes, timeout_s: float) -> JsonObject:
        """Return the answer of /api/embed. Raises as `generate` does."""
        data = self._whole("POST", address, EMBED, body, timeout_s)
        return json_object(data, "Ollama's answer")

    def post(self, address: str, path: str, body: JsonObject) -> JsonObject:
        """Return the answer to a small question. Raises like `get`."""
        data = self._whole("POST", address, path, json.dumps(body).encode(), CHECK_TIMEOUT_S)
        return json_object(data, f"The answer of {self._api.name} to {path}")

    def begin(
        self, address: str, body: bytes, timeout_s: float, caller: socket.socket | None = None
    ) -> Response:
        """Return an answer of which only the head has been read. Raises as `generate` does."""
        return self._send("POST", address, self._api.path, body, timeout_s, caller)

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
            raise self._refusal(address, answer)
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

    def _refusal(self, address: str, answer: Response) -> RequestError:
        """The engine's own words."""
        try:
            body = answer.read()
        except OSError:
            answer.close()
            body = b""
        words = answer.refusal(error_text(body, most=500))
        said = f"{self._api.name} at {address} answered {answer.status}: {words}"
        kind = self._api.refusal(answer.status)
        return kind(said, body) if issubclass(kind, OllamaFailed) else kind(said)

    def _about(self, address: str, what: str) -> str:
        return f"{self._api.name} at {address} {what}. {self._exit_sentence()}".rstrip()


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "no name of a host"
    if is_our_limit(error):
        return f"no connection in {CONNECT_TIMEOUT_S:g} s"
    return tls_error_words(error) if isinstance(error, ssl.SSLError) else in_words(error)
