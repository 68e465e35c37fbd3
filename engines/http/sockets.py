"""Sockets: the addresses of a name, options by which the end of the other host is noticed, those of
our own at a path.

A process that dies closes its connections; a node that loses its power or its network says nothing,
and an answer of minutes would be awaited to its timeout.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TypeGuard

# Seconds of silence until the first question, between questions, and questions unanswered: the
# kernel of the other host answers them, however busy Ollama is.
_IDLE_S, _INTERVAL_S, _QUESTIONS = 10, 5, 3
GONE_AFTER_S = _IDLE_S + _INTERVAL_S * _QUESTIONS

#: Seconds until one of ours has taken a connection: it is on the same network.
CONNECT_TIMEOUT_S = 2.0

#: What a socket of the file system is named by on a command line: unix:PATH.
UNIX = "unix:"
#: A numeric host, and a port.
Address = tuple[str, int]

NOTICE_DEATH: list[tuple[int, int, int]] = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _QUESTIONS),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_AFTER_S * 1000),  # of what was sent
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


def host_is_gone(error: BaseException | None) -> TypeGuard[OSError]:
    """Return whether an error is the kernel's word for it, not a time limit of our own."""
    gone = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
    return isinstance(error, OSError) and error.errno in gone


def is_our_limit(error: OSError) -> bool:
    """Return whether it is the time limit of a socket of ours, not the kernel's word."""
    return isinstance(error, TimeoutError) and not error.errno


def in_words(error: OSError) -> str:
    """Return what the kernel says, without the error's number and the address."""
    if isinstance(error, socket.gaierror):  # its numbers are not the kernel's
        return str(error.strerror)
    return os.strerror(error.errno) if error.errno else str(error)


# --- the addresses of a name ---


def authority(host: str, port: int | None) -> str:
    """Return HOST or HOST:PORT, an address of IPv6 in brackets."""
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def addresses_of(host: str, port: int) -> list[Address]:
    """Return all addresses of a host, in the system's order, each once: localhost has two as a
    rule, and a server may listen at one of them alone. Raises OSError or UnicodeError: it is no
    host's."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(_numeric(*entry[4]) for entry in found))


def _numeric(host: Any, port: Any, _flow: Any = 0, scope: Any = 0) -> Address:
    """The network interface of a link-local address as a part of it: uvloop looks at no more."""
    return (f"{host}%{scope}" if scope else host, port)


def in_turn(addresses: Sequence[Address], timeout_s: float) -> Iterator[tuple[Address, float]]:
    """Yield each address with its share of the time that is left: as much as each after it has."""
    until = monotonic() + timeout_s
    for tried, address in enumerate(addresses):
        yield address, max(0.0, until - monotonic()) / (len(addresses) - tried)


def none_answered(addresses: Sequence[Address], errors: Sequence[OSError]) -> OSError:
    """Return what to raise if no address took a connection: the error, or one with all of them."""
    if len(errors) == 1:
        return errors[0]
    tried = zip(addresses, errors, strict=True)
    return OSError("; ".join(f"{host}: {in_words(error)}" for (host, _), error in tried))


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to the first address of a host that takes a connection, in so much time for all of
    them.

    Raises OSError, which names all that were tried, and UnicodeError for what cannot be a name.
    """
    addresses, errors = addresses_of(host, port), list[OSError]()
    for address, share in in_turn(addresses, timeout_s):
        try:
            return socket.create_connection(address, share)
        except OSError as error:
            errors.append(error)
    raise none_answered(addresses, errors)


def own_socket(at: Path) -> socket.socket:
    """Return a socket that listens at a path, which nobody else opens, in place of what a process
    before us had there. Whoever sees it there is not refused. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    unready = at.with_name(f".{at.name}")
    unready.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        sock.bind(str(unready))
    finally:
        os.umask(before)
    sock.listen()
    unready.replace(at)
    return sock
