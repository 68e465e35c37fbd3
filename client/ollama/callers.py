"""Whoever waits for an answer of ours: who he is, and by his socket whether he still waits."""

from __future__ import annotations

import errno
import select
import socket
import ssl

from flask import has_request_context, request

_AWAY = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class CallerGone(ConnectionResetError):
    """Nobody waits for the answer any longer. Who has ended his side of the connection is taken
    for gone, too: the door takes him so, and nothing tells the two apart."""

    status = 499  # as HAProxy and nginx note it; nobody reads it

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "whoever asked has gone away")


def user() -> str:
    """Return whose request this is: the door says so, and lets nobody else say it."""
    return request.headers.get("Orch-User", "")


def turn() -> str:
    """Return how many requests he has in flight whose this one is, as the door says it; empty if
    none is being answered."""
    return request.headers.get("Orch-Turn", "") if has_request_context() else ""


def caller() -> socket.socket | None:
    """Return where the answer of this request goes, as gunicorn tells it."""
    found = request.environ.get("gunicorn.socket")
    return found if isinstance(found, socket.socket) else None


def check_waits(caller: socket.socket | None) -> None:
    """Return if he waits, or nothing is known of him. Raises CallerGone."""
    if caller is not None:
        poll = select.poll()
        poll.register(caller, _AWAY)
        if poll.poll(0):
            raise CallerGone


def await_answer(answer: socket.socket, caller: socket.socket | None, timeout_s: float) -> None:
    """Wait until there is something to read of an answer. Raises CallerGone, and TimeoutError
    without an errno."""
    if isinstance(answer, ssl.SSLSocket) and answer.pending():
        return  # deciphered already
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    if caller is not None:
        poll.register(caller, _AWAY)
    found = {number for number, _ in poll.poll(1000 * timeout_s)}
    if not found:
        raise TimeoutError("timed out")
    if answer.fileno() not in found:
        raise CallerGone
