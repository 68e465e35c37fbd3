"""A stand-in for Ollama with known times: it answers when it is told to, and runs no model.

What a client reports can so be compared with what was true. It speaks Ollama's and OpenAI's API,
stamps when each request came and when each piece went out, counts how many were in flight, and
fails in the ways it is asked to. GET /seen, GET /requests and DELETE /seen are as in
known_server.c, its faster sister for the benchmarks, which does not fail.

    python3 benchmarks/paced_server.py --port 11500 --ttft 0.2 --itl 0.02 --tokens 64
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter

import httptools
from paced_formats import FORMATS

MODEL = "known:latest"


@dataclass
class Pace:
    """How it answers; may be changed while it runs. Times in seconds.

    `texts`: the pieces of text in turn. `tokens_per_chunk`: tokens that a chunk stands for.
    `held_back`: chunks with no text that come after the first one, though tokens were made.
    `lines_at_once`: lines that go out in one write. `segment`: bytes of a write (None: all).
    `slots`: requests served at once, the others wait (None: all). `pause`: how long an answer
    stands still after `pause_after` tokens. `embed`: until vectors are answered, which know nothing
    of their texts. `readable`: whether /api/show can read the model. `failure`: what a failing
    request does (see _FAILURES); the requests with number `fail_from` and up fail, each
    `fail_every`-th.
    """

    ttft: float = 0.0
    itl: float = 0.0
    embed: float = 0.0
    tokens: int = 8
    texts: tuple[str, ...] = ("a",)
    tokens_per_chunk: int = 1
    held_back: int = 0
    lines_at_once: int = 1
    segment: int | None = None
    slots: int | None = None
    pause: float = 0.0
    pause_after: int = 1
    failure: str | None = None
    fail_from: int = 0
    fail_every: int = 1
    size: int = 1000
    size_vram: int = 0
    models: tuple[str, ...] = (MODEL,)
    loaded: bool = True
    digest: str | None = None
    readable: bool = True
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


_STREAM_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Truth:
    """One answer as it was: perf_counter seconds at which its request came and its first and last
    token went out; `late`: by how many seconds a write of it was late, at most."""

    received: float
    seed: int
    first: float = 0.0
    last: float = 0.0
    late: float = 0.0


@dataclass
class Seen:
    """What was true: counts, what each answer was like, by how many seconds each write was late."""

    requests: int = 0
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    ended_early: int = 0
    truths: list[Truth] = field(default_factory=list)
    lateness: array[float] = field(default_factory=lambda: array("d"))
    bodies: list[dict] = field(default_factory=list)

    @property
    def ttfts(self) -> list[float]:
        """Seconds from each request's arrival to its first token, of those that were answered."""
        return [truth.first - truth.received for truth in self.truths]

    def summary(self) -> dict:
        """What GET /seen answers."""
        counts = {key: value for key, value in vars(self).items() if isinstance(value, int)}
        return counts | {
            "answered": len(self.truths),
            "lateness_seconds": _distribution(self.lateness),
            "ttft_seconds": _distribution(self.ttfts),
        }


def _distribution(values: Sequence[float]) -> dict:
    ordered, n = sorted(values), len(values)
    if not n:
        return {"n": 0}
    p99 = ordered[int((n - 1) * 0.99)]
    return {
        "mean": sum(ordered) / n,
        "p50": ordered[n // 2],
        "p99": p99,
        "max": ordered[-1],
        "n": n,
    }


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
        if path in FORMATS:
            return self._generate(path, json.loads(self.body))
        if path == "/api/embed":
            return self._embed(json.loads(self.body)["input"])
        if path == "/api/show" and not self.server.pace.readable:
            return self.answer(500, {"error": "unable to open file"})
        if path == "/seen" and self.parser.get_method() == b"DELETE":
            self.server.forget()
        if path == "/requests":
            lines = [json.dumps(asdict(truth)) + "\n" for truth in self.server.seen.truths]
            return self.answer_bytes(200, "".join(lines).encode())
        answer = self._answers().get(path)
        return self.answer(200 if answer is not None else 404, answer or {"error": "not found"})

    def _answers(self) -> dict[str, dict]:
        pace = self.server.pace
        models = [{"name": name, "model": name} for name in pace.models]
        if pace.digest is not None:
            models = [model | {"digest": pace.digest} for model in models]
        placed = {
            "size": pace.size,
            "size_vram": pace.size_vram,
            "expires_at": "2030-01-01T01:00:00.123456789+01:00",
        }
        return {
            "/api/version": {"version": "0.0.0-stand-in"},
            "/api/tags": {"models": models},
            "/api/ps": {"models": [m | placed for m in models] if pace.loaded else []},
            "/api/show": {"details": {"quantization_level": "unknown"}},
            "/v1/models": {"object": "list", "data": [{"id": name} for name in pace.models]},
            "/seen": self.server.seen.summary(),
        }

    def _embed(self, texts: list[str]) -> None:
        answer = {"embeddings": [[1.0, 0.0]] * len(texts)}
        self.server.loop.call_later(self.server.pace.embed, self.answer, 200, answer)

    def _generate(self, path: str, body: dict) -> None:
        server, model = self.server, body.get("model", "")
        number = server.seen.requests
        server.seen.requests += 1
        server.seen.bodies.append(body)
        known = {name.lower() for name in server.pace.models}
        short = model.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
        if short not in known and f"{short}:latest" not in known:
            return self.answer(404, {"error": f"model '{model}' not found"})
        pace = server.pace
        fails = number >= pace.fail_from and (number - pace.fail_from) % pace.fail_every == 0
        self.generation = _Generation(self, path, body, pace.failure if fails else None)
        return self.generation.begin()

    def answer(self, status: int, body: dict) -> None:
        self.answer_bytes(status, json.dumps(body).encode())

    def answer_bytes(self, status: int, data: bytes) -> None:
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

    def __init__(self, connection: _Connection, path: str, body: dict, failure: str | None) -> None:
        self.connection, self.server, self.pace = (
            connection,
            connection.server,
            connection.server.pace,
        )
        if failure not in (None, *_FAILURES):
            raise ValueError(failure)
        self.failure = failure
        self.format = FORMATS[path](body)
        self.stream = body.get("stream", self.format.streams_unless_told)
        self.tokens = self.format.tokens(body) or self.pace.tokens
        self.seen = self.server.seen  # also after forget(): what began before it ends there
        self.loop = asyncio.get_running_loop()
        self.truth = Truth(connection.received, body.get("options", body).get("seed", -1))
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
            self.connection.send(_STREAM_HEAD.encode()[:12])
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
        base = self.truth.received if self.pace.slots is None else self.started
        self.due = base + self.pace.ttft
        self._later(self.first)

    def _later(self, call: Callable[[], None]) -> None:
        self.timer = self.loop.call_later(max(0.0, self.due - perf_counter()), call)

    def first(self) -> None:
        if self.stream:
            self.connection.send((_STREAM_HEAD % self.format.content_type).encode())
        self.next()

    def next(self) -> None:
        """The chunk that is due, then the next one's timer; with no ITL all at once."""
        tokens = 0 if self.failure == "no_tokens" else self.tokens
        while self.made < tokens:
            if self.made and self.failure in _FAILURES_ON_THE_WAY:
                return self._fail(self.failure)
            self._token()
            if self.pace.itl or self._pauses():
                return self._later(self.next)
        return self._final()

    def _pauses(self) -> bool:
        return self.pace.pause > 0 and self.made == self.pace.pause_after

    def _token(self) -> None:
        self.made += self.pace.tokens_per_chunk
        text = self.pace.texts[self.chunk % len(self.pace.texts)]
        held = 1 <= self.chunk <= self.pace.held_back
        self.chunk += 1
        self.lines.append(self.format.token("" if held else text))
        if len(self.lines) >= self.pace.lines_at_once:
            self._flush()
        self.due += self.pace.itl + (self.pace.pause if self._pauses() else 0)

    def _flush(self) -> None:
        if self.stream and self.lines:
            self.connection.send(b"".join(b"%x\r\n%b\r\n" % (len(x), x) for x in self.lines))
            self.lines = []
        self._stamp(perf_counter())

    def _stamp(self, now: float) -> None:
        truth = self.truth
        truth.first, truth.last = truth.first or now, now
        truth.late = max(truth.late, now - self.due)
        self.seen.lateness.append(now - self.due)

    def _fail(self, failure: str) -> None:
        if failure == "error_line":
            self.lines.append(self.format.error("the runner has crashed"))
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
        tokens = 0 if self.failure == "no_tokens" else self.tokens
        self.seen.truths.append(self.truth)  # before its reader can look
        counted, times = tokens if self.pace.counts else None, self._times(tokens)
        if self.stream:
            self.lines += self.format.end(counted, times)
            self._close()
        else:
            self.end()
            self.connection.answer(200, self.format.whole("a" * self.chunk, counted, times))
            self._stamp(perf_counter())

    def _times(self, tokens: int) -> dict[str, int]:
        """What Ollama says of its own times, in nanoseconds."""
        seconds = {
            "total_duration": perf_counter() - self.truth.received,
            "load_duration": 0.001,
            "prompt_eval_duration": self.pace.ttft,
            "eval_duration": tokens * self.pace.itl,
        }
        return {key: int(value * 1e9) for key, value in seconds.items()}

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
