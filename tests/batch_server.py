"""A server of known answers for batches: it counts what it is asked, and fails as it is told to.

Each answer is the question in capitals, so that whose answer it is can be seen.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from events import LOOK_S


@dataclass
class Known:
    """How it answers, and what it has seen.

    `failures`: status codes with which it answers a question before its answer, by the question;
    0 is a connection that ends, -1 an answer that is no JSON object; by "*" those of all others.
    `slots`: what /slots says (None: 404). `gate`: answers wait until it is set, but for so many as
    may go `through`. `token`: what it asks for.
    """

    port: int = 0
    failures: dict[str, list[int]] = field(default_factory=dict)
    retry_after: str | None = None
    slots: dict[str, int] | None = None
    health: dict[str, Any] | None = None
    token: str | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    through: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    bodies: MutableSequence[dict[str, Any]] = field(default_factory=list)
    priorities: set[str | None] = field(default_factory=set)
    in_flight: int = 0
    most: int = 0
    looks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: Known

    def do_GET(self) -> None:
        if not self._let_in():
            return
        if self.path == "/slots":
            self.known.looks += 1
        found = {"/slots": self.known.slots, "/health": self.known.health}.get(self.path)
        self._answer(404 if found is None else 200, found or {"error": "there is no such page"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._let_in():
            return
        known, question = self.known, _question(body)
        with known.lock:
            known.asked[question] += 1
            number = known.asked.total()
            known.bodies.append(body)
            known.priorities.add(self.headers["orch-priority"])
            known.in_flight += 1
            known.most = max(known.most, known.in_flight)
            failures = known.failures.get(question, known.failures.get("*", []))
            status = failures.pop(0) if failures else 200
        while not known.gate.wait(LOOK_S) and number > known.through:
            pass
        with known.lock:
            known.in_flight -= 1
        if status == 0:
            self.close_connection = True
        elif status in (200, -1):
            self._answer(200, _answer_to(self.path, question) if status > 0 else [question])
        else:
            self._answer(status, {"error": {"message": f"no {question} today"}})

    def _let_in(self) -> bool:
        right = self.known.token is None or (
            self.headers["Authorization"] == f"Bearer {self.known.token}"
        )
        if not right:
            self._answer(401, {"error": {"message": "who are you?"}})
        return right

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        with contextlib.suppress(OSError):  # who asked was killed
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status != 200 and self.known.retry_after is not None:
                self.send_header("Retry-After", self.known.retry_after)
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _question(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    return messages[-1]["content"] if messages else str(body.get("prompt") or body.get("input"))


def _answer_to(path: str, question: str) -> dict[str, Any]:
    if path.startswith("/api"):
        return {"response": question.upper(), "prompt_eval_count": 2, "eval_count": 3}
    message = {"role": "assistant", "content": question.upper()}
    return {
        "choices": [{"index": 0, "message": message}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3},
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    open_ones: weakref.WeakSet[socket.socket]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open_ones.add(request)
        super().process_request(request, client_address)

    def end_all(self) -> None:
        for one in list(self.open_ones):
            with contextlib.suppress(OSError):  # it has ended
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Whoever asked was killed: no word of it."""


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)


@contextlib.contextmanager
def known_answers(
    port: int = 0, path: Path | None = None, certificate: Path | None = None, **how: Any
) -> Iterator[Known]:
    """It, as `how` (fields of Known) says; by TLS with a certificate, and at a socket of the file
    system with a `path`."""
    known = Known(**how)
    known.gate.set()
    more = {"known": known, "disable_nagle_algorithm": path is None}
    handler = type("Handler", (_Handler,), more)
    with (
        _Server(("127.0.0.1", port), handler)
        if path is None
        else _UnixServer(str(path), handler) as server
    ):
        server.open_ones = weakref.WeakSet()
        if path is None:
            known.port = server.server_address[1]
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield known
        finally:
            known.gate.set()
            server.shutdown()
            server.end_all()
            thread.join()
