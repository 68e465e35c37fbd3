"""URLs of servers as people write them: with and without a scheme, a path, the API's own end."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from engines.engine import BadUrl as BadUrl
from engines.http.sockets import authority
from engines.registry import ENGINES

_SCHEME_PORTS = {"http": 80, "https": 443}
_GIVE = "give http://HOST:PORT or https://HOST"
_PATH_SAFE = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True)
class Base:
    """Where a server is: `root` is what stands before the API's own paths, such as /v1; `shown` is
    the URL by which it is named."""

    secure: bool
    host: str
    port: int
    root: str
    shown: str


def parse(url: str, api: str) -> Base:
    """Return a base URL, or that of an endpoint. Raises BadUrl.

    Without a port it is the scheme's; the engine's own if a host alone, or http, is named without
    a path.
    """
    engine = ENGINES[api]
    scheme, host, port, path = _split(url)
    root = engine.root_of(_plain(path))
    if port is None:
        own = engine.usual_port if scheme == "http" and not root else None
        port = own or _SCHEME_PORTS[scheme]
    named = "" if root == engine.usual_root else root
    return Base(scheme == "https", host, port, root, f"{scheme}://{authority(host, port)}{named}")


def presentable(url: str) -> str:
    """Return the URL as a message may show it: without what may be a password or a key."""
    start, at, rest = url.rpartition("@")
    if at:
        url = f"{start[: start.find('//') + 2] if '//' in start else ''}***@{rest}"
    return re.sub(r"([?#]).*", r"\1***", url, flags=re.DOTALL)


def _split(url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path. Raises BadUrl."""
    url = _with_scheme(url.strip())
    if re.search(r"[\x00-\x20\x7f]", url):
        raise BadUrl("has a blank or a control character in it")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").replace("%25", "%"), parts.port
    except ValueError as error:
        raise BadUrl(f"is no address of a server; {_GIVE}") from error
    if "@" in parts.netloc:
        raise BadUrl(
            "has a user or a password in it, which everybody on this machine can read: give "
            "--header @FILE with a line such as Authorization: Basic …"
        )
    if parts.scheme not in _SCHEME_PORTS or not host or port == 0:
        raise BadUrl(f"is no address of a server; {_GIVE}")
    if parts.query or parts.fragment:
        raise BadUrl("has a ? or a # in it: give the address without what follows")
    return parts.scheme, host, port, parts.path


def _with_scheme(url: str) -> str:
    if "://" in url:
        return url
    try:
        return f"http://[{ipaddress.IPv6Address(url)}]"
    except ValueError:
        return f"http://{url.removeprefix('//')}"


def _plain(path: str) -> str:
    """A path without blank parts, as it stands in a request."""
    return "".join(f"/{quote(part, safe=_PATH_SAFE)}" for part in path.split("/") if part)
