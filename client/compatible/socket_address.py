"""Addresses of the command line: HOST:PORT, or unix:PATH of a socket."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from contracts.errors import UsageError
from engines.http.sockets import UNIX, authority

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class SocketAddress:
    """A socket: `path` is that of a Unix one, else it is `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    @cached_property
    def is_remote(self) -> bool:
        """Whether it may be on another host, which can go without a word."""
        return not self.path and self.host not in _LOOPBACK

    def __str__(self) -> str:
        """As the command line has it."""
        return f"{UNIX}{self.path}" if self.path else authority(self.host, self.port)


def parse_socket(text: str, option: str) -> SocketAddress:
    """Return the address that an option of the command line names. Raises UsageError."""
    if text.startswith(UNIX) and len(text) > len(UNIX):
        return SocketAddress(path=text.removeprefix(UNIX))
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{option} is {text!r}, but must be HOST:PORT or unix:PATH.")
    return SocketAddress(host=host.removeprefix("[").removesuffix("]"), port=int(port))
