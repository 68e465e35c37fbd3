"""HTTP to the replicas, by the door or by an address: an answer, or what went wrong in a sentence
with its kind."""

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
    Busy,
    Died,
    OllamaFailed,
    RequestError,
    TooSlow,
    Unreachable,
)
from client.ollama.addresses import AddressFile
from client.ollama.callers import CallerGone
from client.ollama.responses import Response, Server
from client.ollama.streams import json_object
from contracts.json_object import JsonObject
from engines.http.answers import BadAnswer
from engines.http.headers import Headers
from engines.http.sockets import CONNECT_TIMEOUT_S, host_is_gone, in_words, is_our_limit
from engines.http.tls import context_of, tls_error_words
from engines.json_values import error_text
from engines.ollama import EMBED, error_of, is_final

CHECK_TIMEOUT_S = 5.0
#: What lib/door.cfg says if its queue in front of the engines is full.
_FULL = "too many requests wait for an engine"


class _Asking:
    """What is the same for all ways to ask."""

    def __init__(self, exit_sentence: Callable[[], str], api: EngineApi) -> None:
        """`exit_sentence` says how the engine's job has ended."""
        self._api, self._exit_sentence = api, exit_sentence

    def _send(
        self,
        server: Server,
        request: bytes,
        wait_s: float,
        shown: str,
        caller: socket.socket | None = None,
    ) -> Response:
        """Return an answer of which only the head has been read, of whatever status."""
        answer = Response(self._connection(server, shown), caller)
        with self._in_words(answer, shown, wait_s):
            answer.begin(request, wait_s)
        return answer

    def _read(self, answer: Response, shown: str, wait_s: float) -> bytes:
        """Return the whole body. Raises OllamaFailed, Busy …, if the status is none of success."""
        self._check(answer, shown)
        with self._in_words(answer, shown, wait_s):
            return answer.read()

    def _check(self, answer: Response, shown: str) -> None:
        """Return if the status is 200; else raise what the engine says, in its own words."""
        if answer.status == 200:
            return
        body = _body_of(answer)
        words = answer.refusal(error_text(body, most=500))
        said = f"{shown} answered {answer.status}: {words}"
        kind = self._api.refusal(answer.status)
        raise kind(said, body) if issubclass(kind, OllamaFailed) else kind(said)

    def _generated(self, data: bytes, shown: str) -> JsonObject:
        """Return the whole answer to a query, as Ollama has it. Raises OllamaFailed."""
        answer = json_object(self._api.whole(data), f"The answer of {self._api.name}")
        error = error_of(answer)
        if error is not None:
            raise OllamaFailed(f"{shown} failed: {error[:500]}")
        if not is_final(answer):
            raise OllamaFailed(f"{shown} gave no whole answer: {data[:100]!r}.")
        return answer

    def _connection(self, server: Server, shown: str) -> socket.socket:
        try:
            return server.connect()
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".")
            what = f"was asked nothing: it shows a certificate of somebody else's ({why})"
            raise Unreachable(self._about(shown, what)) from error
        except (OSError, UnicodeError) as error:
            raise Unreachable(self._about(shown, f"does not answer ({_why(error)})")) from error

    @contextmanager
    def _in_words(self, answer: Response, shown: str, wait_s: float) -> Iterator[None]:
        """Failures on the way as ours; they end the connection."""
        try:
            yield
        except CallerGone:
            answer.close()
            raise
        except BadAnswer as error:
            answer.close()
            raise OllamaFailed(self._about(shown, str(error))) from error
        except OSError as error:
            answer.close()
            if host_is_gone(error):
                what = "is gone: its host does not answer"
                raise Unreachable(self._about(shown, what)) from error
            if is_our_limit(error):
                waited = f"{round(wait_s, 1):g} s"
                raise TooSlow(self._about(shown, f"did not answer in {waited}")) from error
            raise self._closed(answer, shown) from error

    def _closed(self, answer: Response, shown: str) -> Unreachable:
        """Whoever was asked has closed the connection before his answer was whole."""
        return Unreachable(self._about(shown, "closed the connection"))

    def _about(self, shown: str, what: str) -> str:
        return f"{shown} {what}. {self._exit_sentence()}".rstrip()

    def _at(self, address: str) -> str:
        return f"{self._api.name} at {address}"


class ReplicaClient(_Asking):
    """Asks a replica, by its address (`host:port`), how it is."""

    def __init__(
        self,
        exit_sentence: Callable[[], str],
        headers: Headers = (),
        authority: Path | None = None,
        api: EngineApi | None = None,
    ) -> None:
        """`headers` go with each request; `authority`: the certificate of who signs for all
        addresses, if they speak TLS; `api`: of the engine, None: Ollama's.

        Raises UsageError if the authority's certificate cannot be used."""
        super().__init__(exit_sentence, api or OllamaApi())
        self._headers = headers
        self._trust = None if authority is None else context_of(str(authority))

    def get(self, address: str, path: str) -> JsonObject:
        """Return a JSON object. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        data = self._ask("GET", address, path, None, CHECK_TIMEOUT_S)
        return json_object(data, f"The answer of {self._api.name} to {path}")

    def post(self, address: str, path: str, body: JsonObject) -> JsonObject:
        """Return the answer to a small question. Raises like `get`."""
        data = self._ask("POST", address, path, json.dumps(body).encode(), CHECK_TIMEOUT_S)
        return json_object(data, f"The answer of {self._api.name} to {path}")

    def generate(self, address: str, body: bytes, timeout_s: float) -> JsonObject:
        """Return the whole answer to a query, as Ollama has it. Raises like `get`."""
        data = self._ask("POST", address, self._api.path, body, timeout_s)
        return self._generated(data, self._at(address))

    def embed(self, address: str, body: bytes, timeout_s: float) -> JsonObject:
        """Return the answer of /api/embed. Raises like `get`."""
        data = self._ask("POST", address, EMBED, body, timeout_s)
        return json_object(data, "Ollama's answer")

    def _ask(
        self, method: str, address: str, path: str, body: bytes | None, wait_s: float
    ) -> bytes:
        server, shown = Server(address, self._headers, self._trust), self._at(address)
        answer = self._send(server, server.request(method, path, body), wait_s, shown)
        return self._read(answer, shown, wait_s)


class DoorClient(_Asking):
    """Asks whichever replica the door chooses, at its socket for the deployment's own parts: there
    requests wait their turn, and go to another replica as long as none has answered."""

    def __init__(
        self,
        at: Path,
        addresses: AddressFile,
        api: EngineApi,
        address_of: Callable[[str], str],
        turn: Callable[[], str] = lambda: "",
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        """`at` is the socket; `address_of` says which address of the file is at an `ip:port`;
        `turn`: how many of his requests whoever asks now has in flight, as the door has told it;
        `retried` is told of each request that the door has sent more than once."""
        super().__init__(addresses.exit_sentence, api)
        self._server, self._addresses = Server(at), addresses
        self._address_of, self._turn, self._retried = address_of, turn, retried

    def begin(
        self, path: str, body: bytes, wait_s: float, caller: socket.socket | None = None
    ) -> Response:
        """Return the answer of a replica, of whatever status, of which only the head has been read;
        if there is a `caller`, it is waited for as long as he waits.

        Raises Unreachable, TooSlow, OllamaFailed, Busy, CallerGone.
        """
        turn = self._turn()
        request = self._server.request("POST", path, body, (("orch-turn", turn),) if turn else ())
        try:
            answer = self._send(self._server, request, wait_s, self._api.name, caller)
        except Died:
            self._retried()
            raise
        answer.replica = self._address_of(answer.field("orch-replica"))
        answer.retried = answer.field("orch-retries") not in ("", "0")
        if answer.retried:
            self._retried()
        if not answer.replica:
            raise self._refusal(answer)
        return answer

    def check(self, answer: Response) -> None:
        """Return if its status is 200. Raises OllamaFailed, Busy."""
        self._check(answer, self._at(answer.replica))

    def generated(self, answer: Response, wait_s: float) -> JsonObject:
        """Return the whole answer to a query, as Ollama has it. Raises as `begin` does."""
        shown = self._at(answer.replica)
        return self._generated(self._read(answer, shown, wait_s), shown)

    def embedded(self, answer: Response, wait_s: float) -> JsonObject:
        """Return the whole answer of /api/embed. Raises as `begin` does."""
        data = self._read(answer, self._at(answer.replica), wait_s)
        return json_object(data, "Ollama's answer")

    def _closed(self, answer: Response, shown: str) -> Unreachable:
        """If nothing was heard, the door has ended what may kill engines (lib/door.cfg)."""
        if answer.heard:
            return super()._closed(answer, shown)
        died = "died three times with this request, which goes to no other replica: see its log"
        return Died(self._about(shown, died))

    def _refusal(self, answer: Response) -> RequestError:
        """What HAProxy itself has answered."""
        words, known = error_text(_body_of(answer), most=500), self._addresses.known
        if _FULL in words:
            return Busy("Too many requests wait for an engine already; ask again later.")
        one = self._at(known[0]) if len(known) == 1 else self._api.name
        if answer.status == 504:
            return TooSlow(self._about(one, "did not answer in time"))
        if answer.status == 502 and not answer.retried:
            return OllamaFailed(self._about(one, "gave no answer of HTTP"))
        if answer.status == 502:
            return Unreachable(self._about(one, "closed the connection"))
        if len(known) == 1:
            return Unreachable(self._about(one, "does not answer"))
        return Unreachable(self._about(f"None of the {len(known)} replicas of {one}", "answers"))


def _body_of(answer: Response) -> bytes:
    """The body of a refusal, as far as it comes."""
    try:
        return answer.read()
    except OSError:
        answer.close()
        return b""


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "no name of a host"
    if is_our_limit(error):
        return f"no connection in {CONNECT_TIMEOUT_S:g} s"
    return tls_error_words(error) if isinstance(error, ssl.SSLError) else in_words(error)
