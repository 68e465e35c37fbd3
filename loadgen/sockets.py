"""Socket options by which a connection notices that the other host is gone.

A process that dies closes its connections; a node that loses its power or its network says nothing,
and an answer of minutes would be awaited to its timeout.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TypeGuard

# Seconds of silence until the first question, between questions, and questions unanswered: the
# kernel of the other host answers them, however busy Ollama is.
_IDLE_S, _INTERVAL_S, _QUESTIONS = 10, 5, 3
GONE_AFTER_S = _IDLE_S + _INTERVAL_S * _QUESTIONS

NOTICE_DEATH: list[tuple[int, int, int]] = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _QUESTIONS),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_AFTER_S * 1000),  # of what was sent
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


def host_is_gone(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether an error is the kernel's word for it, not a time limit of our own."""
    gone = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
    return isinstance(error, OSError) and error.errno in gone


def is_our_limit(error: OSError) -> bool:
    """Whether it is the time limit of a socket of ours, not the kernel's word."""
    return isinstance(error, TimeoutError) and not error.errno


def in_words(error: OSError) -> str:
    """What the kernel says, without the error's number and the address that our reader knows."""
    if isinstance(error, socket.gaierror):  # its numbers are not the kernel's
        return str(error.strerror)
    return os.strerror(error.errno) if error.errno else str(error)
