"""HTTP to one Ollama: an answer, or what went wrong in a sentence with its kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from client.answers import json_object
from client.connection import Answer, Connections, NoHttp
from client.errors import (
    Busy,
    OllamaFailed,
    ServiceError,
    TooSlow,
    Unanswered,
    Unreachable,
)
from loadgen.sockets import host_is_gone, in_words, is_our_limit

CONNECT_TIMEOUT_S = 2.0
CHECK_TIMEOUT_S = 5.0


class Ollama:
    """Sends requests to an address, `host:port`. `ended` gives a sentence on a job that has."""

    def __init__(self, ended: Callable[[], str]) -> None:
        self._connections: dict[str, Connections] = {}
        self._ended = ended

    def check(self, address: str) -> None:
        """Return where it answers. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        self.get(address, "/api/version")

    def get(self, address: str, path: str) -> dict[str, Any]:
        """A JSON object. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        data = self._whole("GET", address, path, None, CHECK_TIMEOUT_S)
        return json_object(data, f"Ollama's answer to {path}")

    def generate(self, address: str, body: bytes, timeout_s: float) -> dict[str, Any]:
        """The whole answer. Raises Unanswered, Unreachable, TooSlow, OllamaFailed, Busy."""
        data = self._whole("POST", address, "/api/generate", body, timeout_s)
        return json_object(data, "Ollama's answer")

    def embed(self, address: str, body: bytes, timeout_s: float) -> dict[str, Any]:
        """The answer of /api/embed. Raises as `generate` does."""
        data = self._whole("POST", address, "/api/embed", body, timeout_s)
        return json_object(data, "Ollama's answer")

    def begin(self, address: str, body: bytes, timeout_s: float) -> Answer:
        """An answer of which only the head has been read. Raises as `generate` does."""
        return self._send("POST", address, "/api/generate", body, timeout_s)

    def _whole(
        self, method: str, address: str, path: str, body: bytes | None, wait_s: float
    ) -> bytes:
        answer = self._send(method, address, path, body, wait_s)
        with self._in_words(answer, address, wait_s):
            return answer.read()

    def _send(
        self, method: str, address: str, path: str, body: bytes | None, wait_s: float
    ) -> Answer:
        connections = self._to(address)
        try:
            sock = connections.take()
        except (OSError, UnicodeError) as error:
            why = self._about(address, f"does not answer ({_why(error)})")
            raise Unanswered(why) from error
        answer = Answer(connections, sock)
        with self._in_words(answer, address, wait_s):
            answer.begin(connections.request(method, path, body), wait_s)
        if answer.status != 200:
            raise _refusal(address, answer)
        return answer

    def _to(self, address: str) -> Connections:
        found = self._connections.get(address)
        if found is None:
            made = Connections(address, CONNECT_TIMEOUT_S)
            found = self._connections.setdefault(address, made)
        return found

    @contextmanager
    def _in_words(self, answer: Answer, address: str, wait_s: float) -> Iterator[None]:
        """Failures on the way as ours; they end the connection."""
        try:
            yield
        except NoHttp as error:
            answer.close()
            raise OllamaFailed(self._about(address, f"does not speak HTTP ({error})")) from error
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
        return f"Ollama at {address} {what}. {self._ended()}".rstrip()


def _refusal(address: str, answer: Answer) -> ServiceError:
    """Ollama's own words; it answers 503 when its queue is full."""
    try:
        text = answer.read().decode("utf-8", "replace")
    except OSError:
        answer.close()
        text = ""
    try:
        text = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    kind = Busy if answer.status == 503 else OllamaFailed
    return kind(f"Ollama at {address} answered {answer.status}: {text.strip()[:500]}")


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "no name of a host"
    if is_our_limit(error):
        return f"no connection in {CONNECT_TIMEOUT_S:g} s"
    return in_words(error)
