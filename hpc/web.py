"""HTTP to our own services: no proxy and no .netrc of the environment, no cookies.

Nothing is followed elsewhere: what answers there is not the service that was asked. What is not
ours is asked by `download` alone.
"""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

from requests import ConnectionError, Response, Session, get
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, ProtocolError

from contracts.errors import OrchError
from contracts.job_files import authority_file
from contracts.json_object import JsonObject
from engines.engine import Ask
from engines.http.asking import NOT_ASKED, FinalResponse, redirected
from engines.http.sockets import connect, in_words

CONNECT_TIMEOUT_S, DOWNLOAD_TIMEOUT_S = 3.0, 5.0
#: Content codings that are taken off on the way here.
_CODINGS = ("", "identity", "gzip", "x-gzip", "deflate")


class _AllAddresses(HTTPConnection):
    """All addresses of a name are tried, each with its share of the time."""

    def _new_conn(self) -> socket.socket:
        timeout_s = self.timeout if isinstance(self.timeout, (int, float)) else CONNECT_TIMEOUT_S
        host = self.host.strip("[]").replace("%25", "%")  # a link-local one has its interface
        try:
            return connect(host, self.port, timeout_s)
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, str(error)) from error


class _Connection(_AllAddresses):
    response_class = FinalResponse


class _TlsConnection(_AllAddresses, HTTPSConnection):
    response_class = FinalResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Requests over our own connections."""

    def init_poolmanager(self, *sizes: Any, **more: Any) -> None:
        super().init_poolmanager(*sizes, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _Session(Session):
    """For services of ours alone: by HTTP, or by TLS with a certificate that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.headers["Accept-Encoding"] = "identity"
        self.adapters.clear()
        self.mount("http://", _Adapter())
        self.mount("https://", _Adapter())

    def get_redirect_target(self, resp: Response) -> None:
        """None is followed; where one leads may not even be a URL."""


_session = _Session()


class NoAnswer(OrchError):
    """The service could not be reached, or not in time."""

    exit_code = 4


@dataclass(frozen=True)
class Answer:
    """Status and body of an HTTP answer; `json` is the parsed body, {} when it is no object.
    `location`: where a redirect leads."""

    status: int
    json: JsonObject
    text: str
    location: str = ""

    @property
    def error(self) -> str:
        """The service's own words about what is wrong, without a full stop."""
        if 300 <= self.status < 400 and self.location:
            return f"HTTP {self.status}: {redirected(self.location)}"
        error = self.json.get("error")
        if isinstance(error, dict):
            error = error.get("message")
        return str(error).rstrip(".") if error else f"HTTP {self.status} {self.text[:200]}"


def call(
    method: str,
    url: str,
    body: object = None,
    timeout_s: float = 10.0,
    token_file: Path | None = None,
    header_file: Path | None = None,
) -> Answer:
    """One request, `body` sent as JSON, with the token of a file if there is such a file, or the
    header of one; by https to who shows a certificate of the authority beside the token. Raises
    NoAnswer; any HTTP status is an answer."""
    headers = _authorization(token_file) | _header(header_file)
    verify = _verified_by(url, token_file)
    try:
        response = _request(method, url, body, timeout_s, headers, verify)
    except OSError as error:  # RequestException is one; so is what requests says of a lacking file
        raise NoAnswer(f"{url} does not answer: {_words(_cause(error))}") from error
    coding = response.headers.get("Content-Encoding", "")
    if coding.lower() not in _CODINGS:
        raise NoAnswer(f"{url} sent Content-Encoding: {coding}{NOT_ASKED}")
    text = response.content.decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = {}
    found = parsed if isinstance(parsed, dict) else {}
    return Answer(response.status_code, found, text, response.headers.get("Location", ""))


def _authorization(token_file: Path | None) -> dict[str, str]:
    try:
        token = token_file.read_text().strip() if token_file else ""
    except FileNotFoundError:  # the service asks for none
        token = ""
    return {"Authorization": f"Bearer {token}"} if token else {}


def _header(header_file: Path | None) -> dict[str, str]:
    """The one header of a file, as curl reads it."""
    try:
        name, _, value = header_file.read_text().partition(":") if header_file else ("", "", "")
    except FileNotFoundError:
        name, value = "", ""
    return {name: value.strip()} if name else {}


def asking(
    url: str, get_s: float = 10.0, post_s: float = 10.0, token_file: Path | None = None
) -> Ask:
    """What asks the server at `url`, with the timeouts of GET and POST, and a token as `call` has
    it. It raises NoAnswer."""

    def ask(path: str, body: JsonObject | None = None) -> Answer:
        if body is None:
            return call("GET", f"{url}{path}", timeout_s=get_s, token_file=token_file)
        return call("POST", f"{url}{path}", body, post_s, token_file)

    return ask


def stream(url: str, silence_s: float, token_file: Path | None = None) -> Iterator[str]:
    """Yield the lines of an answer that goes on, asked for with the token of a file as `call` does
    it. Raises NoAnswer: it is none, or nothing has come for `silence_s`."""
    headers, verify = _authorization(token_file), _verified_by(url, token_file)
    waits = (CONNECT_TIMEOUT_S, silence_s)
    try:
        with _session.get(url, headers=headers, verify=verify, timeout=waits, stream=True) as found:
            if found.status_code != 200:
                raise NoAnswer(f"{url} says: HTTP {found.status_code} {found.text[:200]}")
            for line in found.iter_lines(chunk_size=65_536):
                yield line.decode("utf-8", "replace")
    except OSError as error:  # RequestException is one
        raise NoAnswer(f"{url} does not answer: {_words(_cause(error))}") from error


def probe_url(url: str, header_file: Path | None = None) -> bool | str:
    """True when a service answers 200 at `url`, or a sentence saying why it does not yet; asked
    with the header of a file."""
    try:
        answer = call("GET", url, header_file=header_file)
    except NoAnswer as error:
        return error.message
    return True if answer.status == 200 else f"{url} says: {answer.error}"


def download(url: str, headers: Mapping[str, str], most_bytes: int) -> bytes:
    """The first bytes of what a public server has at `url`; it is asked as the environment says it
    (proxies, certificates), and followed elsewhere. Raises NoAnswer."""
    try:
        with get(url, headers=headers, timeout=DOWNLOAD_TIMEOUT_S, stream=True) as response:
            if response.status_code not in (200, 206):
                raise NoAnswer(f"{url} answers HTTP {response.status_code}")
            return bytes(response.raw.read(most_bytes, decode_content=True))
    except (OSError, HTTPError) as error:  # RequestException is an OSError; HTTPError is urllib3's
        raise NoAnswer(f"{url} does not answer: {_words(_cause(error))}") from error


def _request(
    method: str,
    url: str,
    body: Any,
    timeout_s: float,
    headers: Mapping[str, str],
    verify: bool | str,
) -> Response:
    """Sent once more if the connection was closed before a byte of an answer: a service closes
    idle ones when it likes, and all that we ask may be asked twice. Raises RequestException, and
    OSError if the authority's certificate is not there."""
    waits = (min(CONNECT_TIMEOUT_S, timeout_s), timeout_s)
    send = functools.partial(
        _session.request, method, url, json=body, timeout=waits, headers=headers, verify=verify
    )
    try:
        return send()
    except ConnectionError as error:
        cause = _cause(error)
        closed = (ConnectionResetError, BrokenPipeError)
        if not isinstance(cause, ProtocolError) or not isinstance(cause.args[-1], closed):
            raise
    return send()


def _verified_by(url: str, token_file: Path | None) -> bool | str:
    """The authority that a service by https is known by; True: the system's."""
    if token_file is None or not url.startswith("https://"):
        return True
    return str(authority_file(token_file))


def _cause(error: OSError | HTTPError) -> object:
    """What requests has wrapped: an error of urllib3's as a rule."""
    wrapped = next(iter(error.args), error)
    return wrapped.reason if isinstance(wrapped, MaxRetryError) else wrapped


def _words(cause: object) -> str:
    """Without the connection's place in memory."""
    error = cause.__cause__ if isinstance(cause, NewConnectionError) else None
    if error is None:
        return str(cause)
    return in_words(error) if isinstance(error, OSError) else "no name of a host"
