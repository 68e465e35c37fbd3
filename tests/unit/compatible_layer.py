"""The layer that speaks the APIs of others, in this process, in front of a scripted engine."""

import asyncio
import contextlib
import json
import socket
import threading
from http.client import HTTPConnection

import uvloop
from events import PATIENCE_S
from scripted_server import scripted

from client.compatible.bearers import report_nothing
from client.compatible.engine_client import EngineClient
from client.compatible.http_server import ClientConnection
from client.compatible.routes import Routes
from client.compatible.socket_address import SocketAddress

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
#: The last line of an answer of Ollama.
COUNTS = {"prompt_eval_count": 5, "eval_count": 2}
END = {"done": True, "done_reason": "stop", **COUNTS}


class Layer:
    """Where it answers; `engine` is what is scripted behind it."""

    def __init__(self, port, engine):
        self.port, self.engine = port, engine

    def connect(self):
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, method, path, body=None):
        """Status, head and body of an answer."""
        connection = self.connect()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        with contextlib.closing(connection):
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def post(self, path, **body):
        """Status and JSON of an answer."""
        status, _, said = self.ask("POST", path, body)
        return status, json.loads(said)

    def chat(self, **body):
        return self.post(CHAT, messages=body.pop("messages", HELLO), **body)

    def refused(self, path=CHAT, **body):
        """Status, code and key of an error."""
        if path == CHAT:
            body = {"messages": HELLO, **body}
        status, said = self.post(path, **body)
        assert said["error"]["message"].endswith(".")
        return status, said["error"]["code"], said["error"]["param"]

    def stream(self, path=CHAT, **body):
        """The events of a stream, the last one as its text."""
        body = {"messages": HELLO, **body} if path == CHAT else body
        status, head, said = self.ask("POST", path, {"stream": True, **body})
        assert (status, head.get_content_type()) == (200, "text/event-stream")
        *events, rest = said.decode().split("\n\n")
        assert rest == "" and all(event.startswith("data: ") for event in events)
        return [event if event == "data: [DONE]" else json.loads(event[6:]) for event in events]

    def named(self, path, **body):
        """The events of a stream that have names."""
        status, head, said = self.ask("POST", path, {"stream": True, **body})
        assert (status, head.get_content_type()) == (200, "text/event-stream")
        *events, rest = said.decode().split("\n\n")
        parts = [event.split("\n") for event in events]
        found = [json.loads(data.removeprefix("data: ")) for _, data in parts]
        assert rest == "" and [name for name, _ in parts] == [f"event: {e['type']}" for e in found]
        return found

    def native(self, number=-1):
        """What the engine was asked."""
        return json.loads(self.engine.bodies[number])

    def raw(self, data):
        """A socket on which these bytes were sent."""
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        sock.sendall(data)
        return sock


@contextlib.contextmanager
def layer(*answers, timeout_s=PATIENCE_S, headers=(), report=report_nothing, of=Routes, **how):
    """The layer, in front of a server that gives these answers; `of` makes the routes, of what
    asks that, the model and whom to report to."""
    with (
        scripted(*answers, **how) as engine,
        in_front_of(engine.port, timeout_s, headers, report, of) as port,
    ):
        yield Layer(port, engine)


@contextlib.contextmanager
def in_front_of(port, timeout_s=PATIENCE_S, headers=(), report=report_nothing, of=Routes):
    """The port of a layer in front of an engine's."""
    loop, connections, listening = uvloop.new_event_loop(), set(), threading.Event()
    servers = []

    async def begin():
        engine = EngineClient(SocketAddress(host="127.0.0.1", port=port), headers, timeout_s)
        routes = of(engine, "known", report)
        servers.append(
            await loop.create_server(
                lambda: ClientConnection(routes.handle, connections), "127.0.0.1", 0
            )
        )
        listening.set()

    def run():
        asyncio.set_event_loop(loop)
        loop.create_task(begin())
        loop.run_forever()
        for connection in tuple(connections):
            connection.abort()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert listening.wait(PATIENCE_S)
    try:
        yield servers[0].sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def whole(body, status=200, more=""):
    """An answer in one piece."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def line(value):
    """A line of a stream, as Go's encoder writes it, in a chunk of HTTP."""
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def said(text, **more):
    """A line of a chat with a piece of the message."""
    message = {"role": "assistant", "content": text, **more}
    return line({"model": "known", "created_at": "2026", "message": message, "done": False})


def chat_end(**more):
    return line({"model": "known", "message": {"role": "assistant", "content": ""}, **END, **more})


def streamed(*lines):
    """The whole of a stream."""
    return [STREAM_HEAD, *lines, b"0\r\n\r\n"]
