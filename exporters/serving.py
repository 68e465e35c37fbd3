"""A registry's metrics over HTTP: GET /metrics, and nothing else."""

from __future__ import annotations

import argparse
import hashlib
import hmac
import os
import re
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import CollectorRegistry

from contracts.errors import UsageError
from engines.http.headers import headers_of
from exporters.errors import ExporterError

#: Seconds that a client may take to say what it wants.
SLOW_CLIENT_S = 10


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def address(text: str) -> Address:
    """Return `HOST:PORT`; a host of IPv6 is in brackets. Raises argparse.ArgumentTypeError."""
    found = re.fullmatch(r"\[?([^\[\]]+?)\]?:(\d{1,5})", text)
    if found is None or int(found[2]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 0.0.0.0:9101")
    return Address(found[1], int(found[2]))


def login_of(path: Path | None) -> str | None:
    """Return the value of Authorization in a file of one header, as curl reads it; None: there is
    no file. Raises UsageError, which names no value."""
    if path is None:
        return None
    found, _ = headers_of([f"@{path}"], None, "", {})
    if [name.lower() for name, _ in found] != ["authorization"]:
        raise UsageError(f"--login {path} is to hold one line: Authorization: Basic ...")
    return found[0][1]


def serve(at: Address, registry: CollectorRegistry, login: str | None = None) -> None:
    """Answer there, in threads, as long as the process lives; with a `login`, whoever sends that as
    Authorization, and all others by 401.

    Raises ExporterError if the port is taken or the host is not ours.
    """
    try:
        server = _Server(at, registry, login)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        raise ExporterError(
            f"cannot listen on {at.host}:{at.port} ({why}); choose another port."
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's own: that one looks up a name for its address, which can take seconds."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, at: Address, registry: CollectorRegistry, login: str | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
        self.registry = registry
        self.login = None if login is None else _digest(login)
        super().__init__(at, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away while it is answered is nobody's concern."""


def _digest(text: str) -> bytes:
    """How long a comparison of digests takes says nothing of what they are made of."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SLOW_CLIENT_S

    def do_GET(self) -> None:
        """Send the metrics."""
        if not self._known():
            return self._ask_for_login()
        if self.path.partition("?")[0] != "/metrics":
            return self.send_error(404, explain="There is only /metrics.")
        data = generate_latest(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def _known(self) -> bool:
        wanted, sent = self.server.login, self.headers.get("Authorization", "")
        return wanted is None or hmac.compare_digest(_digest(sent), wanted)

    def _ask_for_login(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """A line for each scrape would be a log of nothing."""
