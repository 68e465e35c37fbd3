"""A stand-in for Ollama with known times: it answers when it is told to, and runs no model.

What a client reports can so be compared with what was true. It stamps when each request came and
when each piece went out, counts how many were in flight, and fails in the ways it is asked to.

    python3 benchmarks/paced_server.py --port 11500 --ttft 0.2 --itl 0.02 --tokens 64
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from time import perf_counter

import httptools

MODEL = "known:latest"


@dataclass
class Pace:
    """How it answers; may be changed while it runs. Times in seconds.

    `texts`: the pieces of text in turn. `tokens_per_chunk`: tokens that a chunk stands for.
    `held_back`: chunks with no text that come after the first one, though tokens were made.
    `lines_at_once`: lines that go out in one write. `segment`: bytes of a write (None: all).
    `slots`: requests served at once, the others wait (None: all). `failure`: what a failing
    request does (see _FAILURES); the requests with number `fail_from` and up fail, each
    `fail_every`-th.
    """

    ttft: float = 0.0
    itl: float = 0.0
    tokens: int = 8
    texts: tuple[str, ...] = ("a",)
    tokens_per_chunk: int = 1
    held_back: int = 0
    lines_at_once: int = 1
    segment: int | None = None
    slots: int | None = None
    failure: str | None = None
    fail_from: int = 0
    fail_every: int = 1
    size: int = 1000
    size_vram: int = 0
    models: tuple[str, ...] = (MODEL,)
    loaded: bool = True
    counts: bool = True


_FAILURES_ON_THE_WAY = ("error_line", "cut", "no_final", "bad_json", "stall", "half_line")
_FAILURES = (
    *_FAILURES_ON_THE_WAY,
    "http_500",
    "http_503",
    "cut_before_answer",
    "half_head",
    "bad_http",
    "no_tokens",
)


_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass
class Seen:
    """What was true: counts, and per request when it came and its pieces went (perf_counter)."""

    requests: int = 0
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    ended_early: int = 0
    ttfts: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)


class Server:
    """The stand-in; `pace` says how it answers, `seen` what happened."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.seen = Seen()
        self.port = 0
        self.waiting: list[_Generation] = []
        self.open: set[_Connection] = set()

    async def start(self, port: int = 0) -> asyncio.AbstractServer:
        """Listen on 127.0.0.1; the port is in `port`."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", port, backlog=4096
        )
        self.port = server.sockets[0].getsockname()[1]
        self.loop, self.listening = loop, server
        return server

    def kill(self) -> None:
        """Die as a process does, called from another thread: nobody listens, connections break."""

        async def die() -> None:
            self.listening.close()
            for connection in list(self.open):
                connection.transport.abort()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(die(), self.loop).result(5)

    def revive(self) -> None:
        """Listen again at the same port, called from another thread."""
        asyncio.run_coroutine_threadsafe(self.start(self.port), self.loop).result(5)

    def forget(self) -> None:
        """Start counting anew."""
        self.seen = Seen()


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.generation: _Generation | None = None
        self.url = b""
        self.body = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.fd = transport.get_extra_info("socket").fileno()
        self.server.seen.connections += 1
        self.server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.open.discard(self)
        if self.generation is not None:
            self.generation.seen.ended_early += 1
            self.generation.end()

    def data_received(self, data: bytes) -> None:
        self.received = perf_counter()
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        path = self.url.decode()
        if path == "/api/generate":
            return self._generate(json.loads(self.body))
        answer = self._answers().get(path)
        return self.answer(200 if answer is not None else 404, answer or {"error": "not found"})

    def _answers(self) -> dict[str, dict]:
        pace = self.server.pace
        models = [{"name": name, "model": name} for name in pace.models]
        placed = {"size": pace.size, "size_vram": pace.size_vram}
        return {
            "/api/version": {"version": "0.0.0-stand-in"},
            "/api/tags": {"models": models},
            "/api/ps": {"models": [m | placed for m in models] if pace.loaded else []},
            "/api/show": {"details": {"quantization_level": "unknown"}},
            "/seen": asdict(self.server.seen),
        }

    def _generate(self, body: dict) -> None:
        server, model = self.server, body.get("model", "")
        number = server.seen.requests
        server.seen.requests += 1
        server.seen.bodies.append(body)
        if model not in server.pace.models and f"{model}:latest" not in server.pace.models:
            return self.answer(404, {"error": f"model '{model}' not found"})
        pace = server.pace
        fails = number >= pace.fail_from and (number - pace.fail_from) % pace.fail_every == 0
        self.generation = _Generation(self, body, pace.failure if fails else None)
        return self.generation.begin()

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: "
        self.transport.write(head.encode() + b"%d\r\n\r\n" % len(data) + data)

    def send(self, data: bytes) -> None:
        """At once, not at the end of the event loop's turn; in segments where asked for."""
        step = self.server.pace.segment or len(data)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            try:
                done = os.write(self.fd, piece)
            except BlockingIOError:
                done = 0
            except OSError:
                return
            if done < len(piece):
                self.transport.write(piece[done:])


class _Generation:
    """One answer being given."""

    def __init__(self, connection: _Connection, body: dict, failure: str | None) -> None:
        self.connection, self.server, self.pace = (
            connection,
            connection.server,
            connection.server.pace,
        )
        if failure not in (None, *_FAILURES):
            raise ValueError(failure)
        self.model, self.failure = body["model"], failure
        self.stream = body.get("stream", True)
        self.tokens = body.get("options", {}).get("num_predict", self.pace.tokens)
        self.seen = self.server.seen  # also after forget(): what began before it ends there
        self.loop = asyncio.get_running_loop()
        self.received = connection.received
        self.made = self.chunk = 0
        self.lines: list[bytes] = []
        self.timer: asyncio.TimerHandle | None = None
        self.working = False

    def begin(self) -> None:
        self.seen.in_flight += 1
        self.seen.most_in_flight = max(self.seen.most_in_flight, self.seen.in_flight)
        if self.failure in ("http_500", "http_503"):
            self.end()
            return self.connection.answer(int(self.failure[5:]), {"error": "told to fail"})
        if self.failure == "cut_before_answer":
            return self.connection.transport.abort()
        if self.failure == "half_head":
            self.connection.send(_STREAM_HEAD[:12])
            return self.connection.transport.close()
        if self.failure == "bad_http":
            return self.connection.send(b"220 ready for mail\r\n")
        slots = self.pace.slots
        if slots is not None and sum(g.working for g in self._others()) >= slots:
            return self.server.waiting.append(self)
        return self.work()

    def _others(self) -> list[_Generation]:
        return [c.generation for c in self.server.open if c.generation is not None]

    def work(self) -> None:
        self.working, self.started = True, perf_counter()
        base = self.received if self.pace.slots is None else self.started
        self.due = base + self.pace.ttft
        self._later(self.first)

    def _later(self, call) -> None:
        self.timer = self.loop.call_later(max(0.0, self.due - perf_counter()), call)

    def first(self) -> None:
        if self.stream:
            self.connection.send(_STREAM_HEAD)
        self.next()

    def next(self) -> None:
        """The chunk that is due, then the next one's timer; with no ITL all at once."""
        tokens = 0 if self.failure == "no_tokens" else self.tokens
        while self.made < tokens:
            if self.made and self.failure in _FAILURES_ON_THE_WAY:
                return self._fail(self.failure)
            self._token()
            if self.pace.itl:
                return self._later(self.next)
        return self._final()

    def _token(self) -> None:
        self.made += self.pace.tokens_per_chunk
        text = self.pace.texts[self.chunk % len(self.pace.texts)]
        held = 1 <= self.chunk <= self.pace.held_back
        self.chunk += 1
        self._line({"model": self.model, "response": "" if held else text, "done": False})
        if len(self.lines) >= self.pace.lines_at_once:
            self._flush()
        self.due += self.pace.itl

    def _line(self, chunk: dict) -> None:
        self.lines.append(json.dumps(chunk, ensure_ascii=False).encode() + b"\n")

    def _flush(self) -> None:
        if self.stream and self.lines:
            self.connection.send(b"".join(b"%x\r\n%b\r\n" % (len(x), x) for x in self.lines))
            self.lines = []
        now = perf_counter()
        if self.chunk == 1:
            self.seen.ttfts.append(now - self.received)
        self.seen.lateness.append(now - self.due)

    def _fail(self, failure: str) -> None:
        if failure == "error_line":
            self._line({"error": "the runner has crashed"})
            return self._close()
        if failure == "no_final":
            return self._close()
        if failure == "bad_json":
            self.lines.append(b"{this is not JSON\n")
        if failure == "half_line":
            self.lines.append(b'{"model": "known", "respo')
        self._flush()
        if failure in ("cut", "half_line"):
            self.connection.transport.abort()
        return None

    def _final(self) -> None:
        now = perf_counter()
        final = {"model": self.model, "response": "", "done": True, "done_reason": "stop"}
        if self.pace.counts:
            final |= {
                "total_duration": int((now - self.received) * 1e9),
                "load_duration": 1_000_000,
                "prompt_eval_count": 7,
                "prompt_eval_duration": int(self.pace.ttft * 1e9),
                "eval_count": 0 if self.failure == "no_tokens" else self.tokens,
                "eval_duration": int(self.tokens * self.pace.itl * 1e9),
            }
        if not self.stream:
            self.end()
            return self.connection.answer(200, final | {"response": "a" * self.chunk})
        self._line(final)
        return self._close()

    def _close(self) -> None:
        self._flush()
        self.end()
        self.connection.send(b"0\r\n\r\n")

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.connection.generation = None
        self.seen.in_flight -= 1
        if self in self.server.waiting:
            self.server.waiting.remove(self)
        elif self.working and self.server.waiting:
            self.server.waiting.pop(0).work()


@contextlib.contextmanager
def running(pace: Pace | None = None, port: int = 0) -> Iterator[Server]:
    """A server in a thread of its own; it stops, with its connections, at the end."""
    server, loop, up = Server(pace), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        await server.start(port)
        up.set()
        await stop.wait()
        server.listening.close()
        for connection in list(server.open):
            connection.transport.abort()
        await asyncio.sleep(0)

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    if not up.wait(5):
        raise RuntimeError("the stand-in did not start")
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


async def _main(port: int, pace: Pace) -> None:
    server = Server(pace)
    listening = await server.start(port)
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft", type=float, default=0.0)
    parser.add_argument("--itl", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--slots", type=int)
    given = vars(parser.parse_args())
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(given.pop("port"), Pace(**given)))
