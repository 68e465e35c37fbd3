"""HTTP to one Ollama: an answer, or what went wrong in a sentence with its kind.

It goes straight there: urllib3 does not look at http_proxy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.util import SKIP_HEADER

from client.answers import json_object
from client.errors import (
    Busy,
    OllamaFailed,
    ServiceError,
    TooSlow,
    Unanswered,
    Unreachable,
)
from loadgen.sockets import NOTICE_DEATH, host_is_gone

CONNECT_TIMEOUT_S = 2.0
CHECK_TIMEOUT_S = 5.0
#: Ollama needs no more: each further header is time that an answer takes.
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": SKIP_HEADER,
    "Accept-Encoding": SKIP_HEADER,
}
#: Made once, not for each request.
_NO_RETRIES = urllib3.Retry(False)


class Ollama:
    """Sends requests to an address, `host:port`. `ended` gives a sentence on a job that has."""

    def __init__(self, ended: Callable[[], str]) -> None:
        self._pools: dict[str, HTTPConnectionPool] = {}
        self._ended = ended

    def _pool(self, address: str) -> HTTPConnectionPool:
        """Its connections. A PoolManager would take the address apart again for each request."""
        pool = self._pools.get(address)
        if pool is None:
            host, _, port = address.rpartition(":")
            made = HTTPConnectionPool(
                host, int(port), maxsize=1000, retries=_NO_RETRIES, socket_options=NOTICE_DEATH
            )
            pool = self._pools.setdefault(address, made)
        return pool

    def check(self, address: str) -> None:
        """Return where it answers. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        self.get(address, "/api/version")

    def get(self, address: str, path: str) -> dict[str, Any]:
        """A JSON object. Raises Unreachable, TooSlow, OllamaFailed, Busy."""
        response = self._send("GET", address, path, None, CHECK_TIMEOUT_S)
        data = self._whole(response, address, CHECK_TIMEOUT_S)
        return json_object(data, f"Ollama's answer to {path}")

    def generate(self, address: str, body: bytes, timeout_s: float) -> dict[str, Any]:
        """The whole answer. Raises Unanswered, Unreachable, TooSlow, OllamaFailed, Busy."""
        response = self.begin(address, body, timeout_s)
        return json_object(self._whole(response, address, timeout_s), "Ollama's answer")

    def embed(self, address: str, body: bytes, timeout_s: float) -> dict[str, Any]:
        """The answer of /api/embed. Raises as `generate` does."""
        response = self._send("POST", address, "/api/embed", body, timeout_s)
        return json_object(self._whole(response, address, timeout_s), "Ollama's answer")

    def begin(self, address: str, body: bytes, timeout_s: float) -> urllib3.BaseHTTPResponse:
        """An answer of which only the head has been read. Raises as `generate` does."""
        return self._send("POST", address, "/api/generate", body, timeout_s)

    def _send(
        self, method: str, address: str, path: str, body: bytes | None, read_s: float
    ) -> urllib3.BaseHTTPResponse:
        with self._in_words(address, read_s, Unanswered):
            response = self._pool(address).urlopen(
                method,
                path,
                body=body,
                headers=_HEADERS if body else None,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_s),
                preload_content=False,
                redirect=False,
                assert_same_host=False,
            )
        if response.status != 200:
            raise _refusal(address, response)
        return response

    def _whole(self, response: urllib3.BaseHTTPResponse, address: str, timeout_s: float) -> bytes:
        with self._in_words(address, timeout_s, Unreachable):
            return response.data

    @contextmanager
    def _in_words(self, address: str, read_s: float, cut: type[Unreachable]) -> Iterator[None]:
        """Network errors as ours; `cut` is what a connection that breaks means at this point."""
        try:
            yield
        except ReadTimeoutError as error:
            if host_is_gone(error.__cause__):
                raise cut(self._about(address, "is gone: its host does not answer")) from error
            waited = f"{round(read_s, 1):g} s"
            raise TooSlow(self._about(address, f"did not answer in {waited}")) from error
        except (ConnectTimeoutError, NewConnectionError) as error:
            raise Unanswered(self._about(address, f"does not answer ({_why(error)})")) from error
        except ProtocolError as error:
            # A connection that broke, not an answer that makes no sense: of that, bytes had come.
            broke = isinstance(error.args[-1], ConnectionError) or host_is_gone(error.args[-1])
            kind = cut if broke else Unreachable
            raise kind(self._about(address, "closed the connection")) from error
        except HTTPError as error:
            raise OllamaFailed(self._about(address, f"failed ({error})")) from error

    def _about(self, address: str, what: str) -> str:
        return f"Ollama at {address} {what}. {self._ended()}".rstrip()


def _refusal(address: str, response: urllib3.BaseHTTPResponse) -> ServiceError:
    """Ollama's own words; it answers 503 when its queue is full."""
    try:
        text = response.data.decode("utf-8", "replace")
    except HTTPError:
        text = ""
    try:
        text = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    kind = Busy if response.status == 503 else OllamaFailed
    return kind(f"Ollama at {address} answered {response.status}: {text.strip()[:500]}")


def _why(error: ConnectTimeoutError) -> str:
    """The last part of urllib3's message: without its object's address and the error's number."""
    if isinstance(error, NewConnectionError):
        return str(error).rpartition(": ")[2].rpartition("] ")[2]
    return f"no connection in {CONNECT_TIMEOUT_S:g} s"
