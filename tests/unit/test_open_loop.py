"""The streams that a hand-over is judged by: they follow the door, and see what goes wrong."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from events import until
from open_loop import OLLAMA, OPENAI, OpenLoop, percentile
from ports import free_port

TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
END = b"data: [DONE]\n\n"


class Handler(BaseHTTPRequestHandler):
    """A door that answers as it is told."""

    server: Door

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        self.server.answer(self)

    def say(self, status: int, body: bytes, **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Door(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, answer: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked = answer, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def door(answer: Callable[[Handler], None]) -> Iterator[Door]:
    with Door(answer) as it:
        threading.Thread(target=it.serve_forever, args=(0.01,), daemon=True).start()
        yield it
        it.shutdown()


def whole(handler: Handler) -> None:
    handler.say(200, ROLE + TOKEN + END)


def closed() -> str:
    """An address where nobody is."""
    return f"http://127.0.0.1:{free_port()}"


def wrong(streams: OpenLoop) -> list[str]:
    """What is to be said of those that have not come to their end."""
    return [str(stream) for stream in streams.streams if not stream.ok]


def loop(url: str, find: Callable[[], str] = str) -> OpenLoop:
    return OpenLoop(url, "secret", "m", find, rate=200.0)


def test_streams_are_asked_until_they_are_stopped() -> None:
    with door(whole) as it, loop(it.url) as streams:
        until(lambda: it.asked > 20)
    assert len(streams.streams) >= 20
    assert all(s.ok and s.due <= s.sent <= s.first <= s.end for s in streams.streams)
    assert len({s.number for s in streams.streams}) == len(streams.streams)


def test_an_answer_tells_the_new_door() -> None:
    with door(whole) as new, door(lambda h: h.say(200, TOKEN + END, orch_address=new.url)) as old:
        with loop(old.url) as streams:
            until(lambda: new.asked > 5)
        assert streams.url == new.url
    assert wrong(streams) == []


def test_a_redirection_is_followed_by_the_same_stream() -> None:
    with (
        door(whole) as new,
        door(lambda h: h.say(307, b"", Location=f"{new.url}/v1")) as old,
        loop(old.url) as streams,
    ):
        until(lambda: new.asked > 5)
    assert wrong(streams) == []
    assert streams.streams[0].doors == [old.url, new.url]


def test_whoever_is_refused_asks_where_the_door_is() -> None:
    with door(whole) as new, loop(closed(), lambda: new.url) as streams:
        until(lambda: new.asked > 5)
    assert wrong(streams) == []


def test_what_is_refused_failed() -> None:
    with loop(closed()) as streams:
        until(lambda: bool(streams.streams))
    assert streams.streams[0].why.startswith("refused")
    assert not streams.streams[0].ok and not streams.streams[0].cut


@pytest.mark.parametrize(("status", "cut"), [(200, True), (503, False)])
def test_what_is_not_brought_to_its_end_is_counted(status: int, cut: bool) -> None:
    with door(lambda h: h.say(status, TOKEN)) as it, loop(it.url) as streams:
        until(lambda: it.asked > 0)
    assert not any(stream.ok for stream in streams.streams)
    assert {stream.cut for stream in streams.streams} == {cut}


def test_a_stream_beside_the_loop() -> None:
    with door(lambda h: h.say(200, b'{"message":{"content":"a"}}\n{"done":true}\n')) as it:
        streams = loop(it.url)
        stream = streams.ask(5, OLLAMA)
        until(lambda: bool(stream.end))
    assert stream.ok and stream.api == OLLAMA != OPENAI


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([], 0.5) != percentile([], 0.5), "NaN: there is none"
