"""The client service's connections to Ollama: given up, and what is made of odd answers."""

import contextlib
import itertools
import socket
import ssl
import threading

import pytest
from events import PATIENCE_S

from client.errors import OllamaFailed, TooSlow, Unreachable
from client.ollama.requests import ReplicaClient
from client.ollama.responses import Response, Server
from engines.http.answers import BadAnswer

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
    return ReplicaClient(lambda: "")


def test_an_answer_in_single_bytes_and_chunks(ollama):
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"done"\r\n7\r\n: true}'
    pieces = [bytes([byte]) for byte in chunked + b"\r\n0\r\n\r\n"]
    with answering(pieces) as address:
        assert ollama.generate(address, b"{}", 5) == {"done": True}


@pytest.mark.parametrize(
    ("pieces", "kind", "words"),
    [
        ((), Unreachable, "closed the connection"),
        ((OK[:9],), Unreachable, "closed the connection"),
        ((OK[:-3],), Unreachable, "closed the connection"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), OllamaFailed, "does not speak HTTP"),
        ([], TooSlow, "did not answer in 0.1 s"),
        ([OK[:-3]], TooSlow, "did not answer in 0.1 s"),
        ((b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n",), OllamaFailed, "answered 500"),
    ],
)
def test_what_is_no_answer(ollama, pieces, kind, words):
    patience_s = 0.1 if kind is TooSlow else PATIENCE_S  # what comes may take its time
    with answering(pieces) as address:
        with pytest.raises(kind, match=words) as caught:
            ollama.generate(address, b"{}", patience_s)
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("address", "words"),
    [("no.such.host.invalid:1", "not known|resolution"), ("a..b:1", "no name of a host")],
)
def test_a_host_that_is_none(ollama, address, words):
    with pytest.raises(Unreachable, match=rf"{address} does not answer \(.*({words})"):
        ollama.get(address, "/")


def test_an_answer_that_was_given_up_gives_nothing_more():
    with answering([OK[:-3]]) as address:
        server = Server(address)
        answer = Response(server.connect())
        answer.begin(server.request("GET", "/", None), PATIENCE_S)
        pieces = answer.pieces()
        assert OK.endswith(next(pieces) + OK[-3:])
        answer.close()
        with pytest.raises(OSError, match="given up") as caught:
            next(pieces)
        assert not isinstance(caught.value, BadAnswer)


# --- by TLS ---


@pytest.fixture
def encrypted(certificates):
    """A client that trusts the authority of `certificates`, and what shows one of these: it answers
    each request of each connection, and closes that after so many; the address, and a list of what
    was asked on which connection."""
    client = ReplicaClient(lambda: "", (("X-Key", "secret"),), certificates / "ca.pem")
    listeners = []

    def begin(name, answers_each=100, answer=OK):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem")
        listener, asked = socket.create_server(("127.0.0.1", 0)), []
        listeners.append(listener)

        def serve():
            with contextlib.suppress(OSError):  # the listener's end
                for number in itertools.count():
                    talk(listener.accept()[0], number)

        def talk(connection, number):
            with contextlib.suppress(OSError), context.wrap_socket(connection, True) as sock:
                for _ in range(answers_each):
                    if not (request := sock.recv(65_536)):
                        break
                    asked.append((number, request))
                    sock.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}", asked

    yield client, begin
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_each_answer_by_tls_has_a_connection_of_its_own(encrypted):
    client, begin = encrypted
    address, asked = begin("good")
    for _ in range(2):
        assert client.embed(address, b"{}", PATIENCE_S) == {"done": True}
    assert [number for number, _ in asked] == [0, 1]
    assert all(b"X-Key: secret" in request for _, request in asked)


def test_an_answer_by_tls_that_does_not_come_is_waited_for_so_long(encrypted):
    client, begin = encrypted
    address, _ = begin("good", answer=OK[:-3])
    with pytest.raises(TooSlow, match=r"did not answer in 0\.5 s"):
        client.generate(address, b"{}", 0.5)


def test_an_answer_by_tls_that_ends_before_its_time_is_no_answer(encrypted):
    client, begin = encrypted
    address, _ = begin("good", answers_each=1, answer=OK[:-3])
    with pytest.raises(Unreachable, match="closed the connection"):
        client.generate(address, b"{}", PATIENCE_S)


@pytest.mark.parametrize("name", ["other", "old"])
def test_who_shows_another_certificate_is_asked_nothing(encrypted, name):
    client, begin = encrypted
    address, asked = begin(name)
    words = rf"{address} was asked nothing: it shows a certificate of somebody else's \("
    with pytest.raises(Unreachable, match=words):
        client.generate(address, b"{}", PATIENCE_S)
    assert asked == []


def test_who_speaks_no_tls_is_asked_nothing(encrypted):
    client, _ = encrypted
    with answering((OK,)) as address, pytest.raises(Unreachable, match="it does not speak TLS"):
        client.generate(address, b"{}", PATIENCE_S)
