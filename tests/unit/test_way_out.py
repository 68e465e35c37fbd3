"""The way out of an engine's network, by which a model is fetched: CONNECT, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "lib" / "way_out.py"
PATIENCE_S = 60

Ask = Callable[..., bytes]


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does this with its first connection; its host:port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            with server.accept()[0] as sock:
                answer(sock)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "{}:{}".format(*server.getsockname())
        thread.join(PATIENCE_S)


def echo(sock: socket.socket) -> None:
    sock.sendall(sock.recv(1000).upper())


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Sends bytes to a way out, and more once that has answered; what came back, up to the end."""
    started: list[subprocess.Popen[bytes]] = []

    def send(head: bytes, then: bytes = b"", https_proxy: str = "") -> bytes:
        path = tmp_path / "way_out"
        environment = {**os.environ, "https_proxy": https_proxy, "HTTPS_PROXY": ""}
        command = [sys.executable, str(PROGRAM), str(path)]
        started.append(subprocess.Popen(command, env=environment))
        deadline = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert started[0].poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        assert path.stat().st_mode & 0o077 == 0, "nobody else's"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(path))
            sock.sendall(head)
            said = sock.recv(1000)
            if then:
                sock.sendall(then)
            while piece := sock.recv(1000):
                said += piece
        return said

    yield send
    for process in started:
        process.terminate()
        process.wait(PATIENCE_S)


def test_what_is_sent_after_connect_comes_there_and_back(ask: Ask) -> None:
    with listening(echo) as at:
        said = ask(f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n".encode(), b"hello")
    assert said == b"HTTP/1.1 200 OK\r\n\r\nHELLO"


def test_a_sites_proxy_is_asked_in_its_turn(ask: Ask) -> None:
    def proxy(sock: socket.socket) -> None:
        assert sock.recv(1000).startswith(b"CONNECT registry.test:443 HTTP/1.1\r\n")
        sock.sendall(b"HTTP/1.1 200 by the proxy\r\n\r\n")
        echo(sock)

    with listening(proxy) as at:
        head = b"CONNECT registry.test:443 HTTP/1.1\r\n\r\n"
        said = ask(head, b"hello", https_proxy=f"http://{at}")
    assert said == b"HTTP/1.1 200 by the proxy\r\n\r\nHELLO"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"GET http://registry.test/v2/ HTTP/1.1\r\n\r\n", b"only https is passed on"),
        (b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n", b"Connection refused"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 502 "),
    ],
)
def test_what_cannot_be_is_refused_in_words(ask: Ask, head: bytes, words: bytes) -> None:
    said = ask(head)
    assert said.startswith(b"HTTP/1.1 502 ") and words in said and said.count(b"\r\n") == 2
