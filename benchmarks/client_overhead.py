#!/usr/bin/env python3
"""What /query of the client service adds to an answer's time, and how many answers it bears.

    .venv/bin/python benchmarks/client_overhead.py [--runs 3] [--only latency|capacity]

The service runs under gunicorn with the options of its job script, pinned to one core (1); the
server with known times (known_server.c) and the driver, which sends all requests, share another
one (0).

Latency (TTFT 200 ms, ITL 20 ms, 64 tokens; streamed and not): N requests in flight through the
service and, at the same time, N straight to the server, so that both see the same moment of the
same machine. Each of the 2 N connections sends one request after another; they begin spread over
the time of one answer, as users who do not know of each other. What is added is the difference of
percentiles of the two. In the same runs the same of a plain service (plain_service.py: Flask,
gunicorn's threads, urllib3, and nothing else): the part of the libraries and of the machine.
Capacity: 64 in flight through the service, each answer taking 50 ms.

Ends with 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from urllib.request import urlopen

import httptools
import uvloop
from haproxy import haproxy
from known import MODEL, known_server
from measuring import PROJECT, Figures

sys.path.insert(0, str(PROJECT))

from clientServiceHandler import SERVING_THREADS
from loadgen.measure.stats import percentile

SERVER_CORE, SERVICE_CORE = 0, 1
PACE = {"ttft": 0.2, "itl": 0.02, "tokens": 64}
ANSWER_S = 0.2 + 64 * 0.02
#: Requests in flight, and how many each connection sends: p99 wants some hundred in all.
LEVELS = {1: 20, 4: 14, 16: 6, 64: 4}
AT_ONCE, CAPACITY_ANSWER_S, CAPACITY_S = 64, 0.05, 8.0
P50_S, P99_S, CAPACITY = 0.002, 0.006, 700.0


@dataclass
class Times:
    """Of the answers of one way, in seconds."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


class Caller(asyncio.Protocol):
    """A connection that sends the same request again and again, and stamps what comes."""

    def __init__(self, request: bytes, times: Times) -> None:
        self._request = request
        self._times = times
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        self._now = perf_counter()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Httptools'."""
        self._first = self._first or self._now

    def on_message_complete(self) -> None:
        """Httptools'."""
        if self._parser.get_status_code() != 200:
            sys.exit(f"A request was answered with {self._parser.get_status_code()}.")
        self._times.first.append(self._first - self._sent)
        self._times.whole.append(self._now - self._sent)
        self._ended.set_result(None)

    async def ask(self) -> None:
        """One request, to its end."""
        self._parser, self._first = httptools.HttpResponseParser(self), 0.0
        self._ended = asyncio.get_running_loop().create_future()
        self._sent = perf_counter()
        self._transport.write(self._request)
        await self._ended


def request(path: str, stream: bool) -> bytes:
    """Its bytes."""
    body = json.dumps({"model": MODEL, "prompt": "Why is the sea salt?", "stream": stream}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    return head.encode() + b"%d\r\n\r\n%b" % (len(body), body)


async def in_flight(
    count: int, port: int, data: bytes, after_s: float, until: float, each: int = 10**9
) -> Times:
    """`count` connections; the i-th begins `after_s` x (i + a half) / count from now, and sends
    `each` requests, none later than `until`."""
    times, loop = Times(), asyncio.get_running_loop()

    async def one(number: int) -> None:
        _, caller = await loop.create_connection(lambda: Caller(data, times), "127.0.0.1", port)
        await asyncio.sleep(after_s * (number + 0.5) / count)
        for _ in range(each):
            if perf_counter() > until:
                break
            await caller.ask()
        caller._transport.close()

    await asyncio.gather(*(one(number) for number in range(count)))
    return times


@contextlib.contextmanager
def service(ollama_port: int, *, plain: bool = False) -> Iterator[tuple[int, int]]:
    """The client service of one Ollama, or a plain one, on its core: its port and process id."""
    with haproxy(1) as door, tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        (Path(folder) / "ollama_ip_1.txt").write_text(f"127.0.0.1:{ollama_port}\n")
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            _gunicorn(listener.fileno(), plain),
            cwd=PROJECT,
            env={
                **os.environ,
                "ORCH_OUTPUT_DIR": folder,
                "ORCH_DOOR": str(door),
                "ORCH_OLLAMA_JOB": "1",
                "ORCH_MODEL": MODEL,
            },
            pass_fds=[listener.fileno()],
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVICE_CORE}),
        )
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=30).read()
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def _gunicorn(listener: int, plain: bool) -> list[str]:
    """As templates/client.sbatch.j2 starts it."""
    command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener}"]
    command += ["--threads", str(SERVING_THREADS), "--log-level", "error"]
    if plain:
        return [*command, "--chdir", "benchmarks", "--worker-class", "gthread", "plain_service:app"]
    config = str(PROJECT / "client" / "serving.py")
    return [*command, "--config", config, "clientService:create_app()"]


def cpu_seconds(pid: int) -> float:
    """Of a process's children that live: gunicorn's worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    stats = [
        Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children
    ]
    ticks = sum(int(stat[11]) + int(stat[12]) for stat in stats)
    return ticks / os.sysconf("SC_CLK_TCK")


# --- what is measured ---


async def latency(figures: Figures, ollama: int, client: int) -> None:
    """One run of all levels, streamed and not."""
    for stream in (False, True):
        for count in LEVELS:
            straight, through = await both(ollama, client, count, stream)
            name = f"{count} in flight, {'streamed' if stream else 'whole'}"
            _compare(figures, f"{name}: end", straight.whole, through.whole)
            if stream:
                _compare(figures, f"{name}: first", straight.first, through.first)


async def plain_latency(figures: Figures, ollama: int, plain: int) -> None:
    """One run of the lowest and the highest level through the plain service."""
    for count in (min(LEVELS), max(LEVELS)):
        straight, through = await both(ollama, plain, count, False)
        a, b = (percentile(sorted(times.whole), 50) for times in (straight, through))
        figures.add(f"{count} in flight, whole: end, p50 +ms, plain", 1000 * (b - a))


async def both(ollama: int, service_port: int, count: int, stream: bool) -> tuple[Times, Times]:
    """The same number in flight straight to the server and through a service, at the same time."""
    ways = {ollama: "/api/generate", service_port: "/query"}
    straight, through = await asyncio.gather(
        *(
            in_flight(count, port, request(path, stream), ANSWER_S, math.inf, LEVELS[count])
            for port, path in ways.items()
        )
    )
    return straight, through


def _compare(figures: Figures, name: str, straight: list[float], through: list[float]) -> None:
    for percent, bound in ((50, P50_S), (99, P99_S)):
        a, b = (percentile(sorted(values), percent) for values in (straight, through))
        figures.add(f"{name}, p{percent} +ms", 1000 * (b - a), at_most=1000 * bound)


async def capacity(figures: Figures, client: int, pid: int) -> None:
    """One run of as much as it bears."""
    data, before = request("/query", False), cpu_seconds(pid)
    until = perf_counter() + CAPACITY_S
    times = await in_flight(AT_ONCE, client, data, CAPACITY_ANSWER_S, until)
    figures.add("answers per second", len(times.whole) / CAPACITY_S, at_least=CAPACITY)
    figures.add("ms of an answer, p50", 1000 * percentile(sorted(times.whole), 50))
    used = cpu_seconds(pid) - before
    figures.add("its CPU, ms per answer", 1000 * used / len(times.whole))


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--only", choices=["latency", "capacity"])
    given = p.parse_args()
    os.sched_setaffinity(0, {SERVER_CORE})
    added, borne, good = Figures(), Figures(), True
    for _ in range(given.runs):
        if given.only != "capacity":
            with known_server(**PACE) as server, service(server.port) as (port, _pid):
                sleep(1)  # what it does at its start is over
                uvloop.run(latency(added, server.port, port))
            with (
                known_server(**PACE) as server,
                service(server.port, plain=True) as (port, _pid),
            ):
                sleep(1)
                uvloop.run(plain_latency(added, server.port, port))
        if given.only != "latency":
            with (
                known_server(ttft=CAPACITY_ANSWER_S) as server,
                service(server.port) as (port, pid),
            ):
                uvloop.run(capacity(borne, port, pid))
    if given.only != "capacity":
        good &= added.report("Added by the client service, ms: median (lowest to highest run)")
    if given.only != "latency":
        good &= borne.report(f"{AT_ONCE} in flight, answers of {1000 * CAPACITY_ANSWER_S:g} ms")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
