"""HTTP by the standard library, for what is asked of a server beside a run."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass

from contracts.json_object import JsonObject
from engines.engine import Ask
from engines.http.headers import Headers, Mask
from engines.http.sockets import in_words
from engines.http.tls import context_of, tls_error_words
from engines.http.urls import Base
from engines.json_values import error_text, object_or_empty

#: Of an answer that is read: lists of models have some kilobytes.
MOST_BYTES = 2**24
NOT_ASKED = ", although only identity was asked for"


class FinalResponse(http.client.HTTPResponse):
    """The final one, whatever goes before it (RFC 9110, 15.2: "A client MUST be able to parse one
    or more 1xx responses"): http.client passes over 100 alone. For a connection's
    `response_class`."""

    def _read_status(self) -> tuple[str, int, str]:
        """Any informational answer as 100. Empty lines before it mean nothing (RFC 9112, 2.2)."""
        while self.fp.peek(1)[:1] in (b"\r", b"\n"):
            self.fp.readline(2)
        version, status, reason = super()._read_status()  # type: ignore[misc]  # not in typeshed
        informational = 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if informational else status, reason


def redirected(location: str) -> str:
    """Return what to say of a redirect, which is not followed: it leads to what was not named."""
    return f"it redirects to {location[:300]}: give that address"


def why_unreadable(response: http.client.HTTPResponse) -> str | None:
    """Return a sentence if its body is not what was asked for: it lies elsewhere, or is coded."""
    location, coding = (response.getheader(f, "") for f in ("Location", "Content-Encoding"))
    if 300 <= response.status < 400 and location:
        return redirected(location)
    if coding.lower() not in ("", "identity"):
        return f"it sent Content-Encoding: {coding}{NOT_ASKED}"
    return None


def http_client(
    secure: bool, host: str, port: int | None, timeout_s: float, ca: str | None
) -> http.client.HTTPConnection:
    """Return a connection by http.client, for what is asked beside a run. Raises UsageError."""
    connection = (
        http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context_of(ca))
        if secure
        else http.client.HTTPConnection(host, port, timeout=timeout_s)
    )
    connection.response_class = FinalResponse
    return connection


class NoAnswer(OSError):
    """The server could not be reached, or not in time; the words say why."""


@dataclass(frozen=True)
class Answer:
    """An answer of HTTP; `json` is {} if it is no object, `error` the server's own words."""

    status: int
    json: JsonObject
    error: str


def asking(
    base: Base, headers: Headers, get_s: float, post_s: float = 0.0, ca: str | None = None
) -> Ask:
    """Return what asks the server at `base` for paths, with the timeouts of GET and POST; without
    the headers' secrets in its answers' words. It raises NoAnswer."""
    mask = Mask(headers)

    def ask(path: str, body: JsonObject | None = None) -> Answer:
        timeout_s = get_s if body is None else post_s
        connection = http_client(base.secure, base.host, base.port, timeout_s, ca)
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        typed = {"Content-Type": "application/json"} if data else {}
        try:
            connection.request(method, path, data, {**dict(headers), **typed})
            response = connection.getresponse()
            text = response.read(MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{base.shown} does not answer: {_why(error)}") from error
        finally:
            connection.close()
        words = why_unreadable(response) or error_text(text) or response.reason
        said = f"HTTP {response.status}: {mask(words)}".rstrip(".")
        return Answer(response.status, object_or_empty(text), said)

    return ask


def _why(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, ssl.SSLError):
        return tls_error_words(error)
    if isinstance(error, OSError):
        return in_words(error)
    return f"what it sends is not HTTP ({type(error).__name__})"
