"""The client service's connections to Ollama: kept, given up, and what is made of odd answers."""

import contextlib
import socket
import threading

import pytest
from paced_server import running

from client.errors import OllamaFailed, TooSlow, Unanswered, Unreachable
from client.ollama.connection_pool import ConnectionPool, Response
from client.ollama.requests import OllamaClient
from engines.http_answers import BadAnswer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n" + b'{"done": true}'


@contextlib.contextmanager
def answering(*answers):
    """A server: the i-th request that comes gets the i-th list of pieces and, where it is in a
    tuple, then the end of its connection. Yields its address."""

    def serve():
        waiting = list(answers)
        while waiting:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65_536):
                    pieces = waiting.pop(0)
                    for piece in pieces:
                        connection.sendall(piece)
                    if isinstance(pieces, tuple):
                        break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def ollama():
    return OllamaClient(lambda: "")


def test_one_thread_keeps_one_connection(ollama):
    with running() as server:
        for _ in range(3):
            assert ollama.get(f"127.0.0.1:{server.port}", "/api/version")
        assert server.seen.connections == 1


def test_one_that_was_closed_in_the_meantime_is_not_used(ollama):
    with answering((OK,), [OK]) as address:
        connections = ollama._to(address)
        assert ollama.generate(address, b"{}", 5) == {"done": True}
        (kept,) = connections._idle
        kept.settimeout(5)
        assert kept.recv(1, socket.MSG_PEEK) == b""  # its end is here
        assert ollama.generate(address, b"{}", 5) == {"done": True}
        assert kept.fileno() == -1


def test_one_that_ollama_will_close_is_not_kept(ollama):
    with answering((OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1),)) as address:
        assert ollama.generate(address, b"{}", 5) == {"done": True}
        assert not ollama._to(address)._idle


def test_an_answer_in_single_bytes_and_chunks(ollama):
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"done"\r\n7\r\n: true}'
    pieces = [bytes([byte]) for byte in chunked + b"\r\n0\r\n\r\n"]
    with answering(pieces) as address:
        assert ollama.generate(address, b"{}", 5) == {"done": True}
        assert len(ollama._to(address)._idle) == 1


@pytest.mark.parametrize(
    ("pieces", "kind", "words"),
    [
        ((), Unanswered, "closed the connection"),
        ((OK[:9],), Unreachable, "closed the connection"),
        ((OK[:-3],), Unreachable, "closed the connection"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), OllamaFailed, "does not speak HTTP"),
        ([], TooSlow, "did not answer in 0.1 s"),
        ([OK[:-3]], TooSlow, "did not answer in 0.1 s"),
        ((b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n",), OllamaFailed, "answered 500"),
    ],
)
def test_what_is_no_answer(ollama, pieces, kind, words):
    with answering(pieces) as address:
        with pytest.raises(kind, match=words) as caught:
            ollama.generate(address, b"{}", 0.1)
        assert type(caught.value) is kind
        assert not ollama._to(address)._idle


@pytest.mark.parametrize(
    ("address", "words"),
    [("no.such.host.invalid:1", "not known|resolution"), ("a..b:1", "no name of a host")],
)
def test_a_host_that_is_none(ollama, address, words):
    with pytest.raises(Unanswered, match=rf"{address} does not answer \(.*({words})"):
        ollama.check(address)


def test_an_answer_that_was_given_up_gives_nothing_more():
    with answering([OK[:-3]]) as address:
        connections = ConnectionPool(address, timeout_s=2)
        answer = Response(connections, connections.open())
        answer.begin(connections.request("GET", "/", None), 5)
        pieces = answer.pieces()
        assert OK.endswith(next(pieces) + OK[-3:])
        answer.close()
        with pytest.raises(OSError, match="given up") as caught:
            next(pieces)
        assert not isinstance(caught.value, BadAnswer)
