#!/usr/bin/env python3
"""What the door of a deployment adds to its answers, and what it bears.

    .venv/bin/python benchmarks/door.py [--runs 3] [WAY ...]

The door is the real one, by its job script (doors.py), on both cores; behind it is the server with
known times (known_server.c, core 0; TTFT 200 ms, ITL 20 ms, 64 tokens), in front of it the load
generator (core 1). What is added is the difference to the same load sent straight to the server, in
the same run. All the while a prober asks /health, each 50 ms.

    raw       1,024 streams, and 64, by /api
    chat      256 streams, and 64, by /v1/chat/completions, which is translated
              so many are under way at a time, since they begin at a constant rate; then as many
              begin at the same moment, where each waits for the work that those before it make:
              that has no bound
    query     512 /query at once
    idle      /health beside 2,000 idle connections and 200 that send a byte a second
    replicas  24 replicas' requests per second as a multiple of one's
    comes     a second replica, which comes under load: its part of the requests from 2 s later on

Ends with 1 where a bound is missed. It takes some minutes, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import resource
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter, sleep

from doors import Door, door
from known import KnownServer, known_server
from measuring import Figures, load, punctual

PACE = {"ttft": 0.2, "itl": 0.02, "tokens": 64}
MAX_LATE_S = 0.01
HEALTH_MS, PROBE_S = 100.0, 0.05
QUERIES, IDLE, DRIPPING = 512, 2000, 200
#: Streams of a steady load, as a multiple of those under way at a time.
TURNS = 4
REPLICAS, SLOTS = 24, 2
REPLICA_PACE = {"ttft": 0.2, "itl": 0.02, "tokens": 20, "slots": SLOTS}
#: How soon a replica is to have its share, and for how long that is looked at.
SHARE_S = 2.0

#: By API and streams: what may be added to TTFT's mean, p50 and p99 and to ITL's p99, in ms.
STREAMS = {
    "raw": ("ollama", {1024: {"ttft mean": 6.0, "ttft p99": 30.0}, 64: {"ttft p50": 2.0}}),
    "chat": ("openai", {256: {"ttft mean": 10.0, "itl p99": 5.0}, 64: {"ttft p50": 2.0}}),
}


@dataclass(frozen=True)
class Behind(KnownServer):
    """A known server as it is reached through the door at `at`."""

    at: str = ""

    @property
    def url(self) -> str:
        """The door's."""
        return f"http://{self.at}"


class Prober(threading.Thread):
    """Asks /health again and again; `worst_ms` is the longest that it took so far."""

    def __init__(self, at: Door) -> None:
        super().__init__(daemon=True)
        self._at = at
        self._ended = threading.Event()
        self.worst_ms = 0.0

    def run(self) -> None:
        """Ask until told to end."""
        while not self._ended.wait(PROBE_S):
            began = perf_counter()
            self._at.ask("/health")
            self.worst_ms = max(self.worst_ms, 1000 * (perf_counter() - began))

    def end(self) -> float:
        """Return the worst."""
        self._ended.set()
        self.join()
        return self.worst_ms


@contextlib.contextmanager
def probed(figures: Figures, at: Door, what: str) -> Iterator[None]:
    """Add how long /health took at worst while that goes on."""
    prober = Prober(at)
    prober.start()
    try:
        yield
    finally:
        figures.add(f"{what}: /health at worst, ms", prober.end(), at_most=HEALTH_MS)


def steadily(streams: int) -> list[str]:
    """The load by which so many streams are under way at a time."""
    lasts = PACE["ttft"] + PACE["itl"] * (PACE["tokens"] - 1)
    return [f"--rate={streams / lasts:.1f}", "--arrivals=constant", f"--requests={TURNS * streams}"]


def at_once(streams: int) -> list[str]:
    """The load in which so many begin at the same moment, and again."""
    return [f"--clients={streams}", f"--requests={2 * streams}"]


def latencies(server: KnownServer, api: str, how: list[str], *more: str) -> dict[str, float]:
    """Of such a load, in ms. Ends the program if a request failed."""
    options = [f"--api={api}", *how, *more]
    made = punctual(lambda: load(server, *options, f"--num-predict={PACE['tokens']}"), MAX_LATE_S)
    failed = made.summary["requests"]["failed"]
    if failed:
        sys.exit(f"{failed} requests failed: {made.summary['requests']['errors']}")
    found = made.summary["latency_seconds"]
    return {f"{name} {statistic}": 1000 * found[name][statistic]
            for name in ("ttft", "itl") for statistic in ("mean", "p50", "p99")}  # fmt: skip


#: How the streams of a load come, and what figures of it are called.
KINDS = ((steadily, ""), (at_once, " at once"))


def measure_streams(figures: Figures, at: Door, server: KnownServer, way: str) -> None:
    """Streams straight and through the door."""
    api, amounts = STREAMS[way]
    through, token = Behind(server.port, server.pid, at.at), f"--token-file={at.token_file}"
    for (streams, bounds), (how, kind) in product(amounts.items(), KINDS):
        what = f"{way} {streams}{kind}"
        straight = latencies(server, api, how(streams))
        with probed(figures, at, what):
            found = latencies(through, api, how(streams), token)
        for name, most in bounds.items():
            figures.add(f"{what}: {name}, straight, ms", straight[name])
            bound = math.inf if kind else most
            figures.add(f"{what}: {name}, added, ms", found[name] - straight[name], at_most=bound)


def measure_queries(figures: Figures, at: Door) -> None:
    """Queries at once, not streamed: more than the service has threads."""
    with probed(figures, at, f"query {QUERIES}"), ThreadPoolExecutor(QUERIES) as pool:
        began = perf_counter()
        asked = [pool.submit(at.ask, "/query", {"prompt": "Hi"}) for _ in range(QUERIES)]
        answered = sum(one.result().status == 200 for one in asked)
    figures.add(f"query {QUERIES}: answered", answered, at_least=QUERIES)
    figures.add(f"query {QUERIES}: all of them, s", perf_counter() - began)


def measure_idle(figures: Figures, at: Door) -> None:
    """Connections that send nothing, or a byte a second."""
    host, _, port = at.at.rpartition(":")
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((host, int(port))))
                for _ in range(IDLE + DRIPPING)]  # fmt: skip
        with probed(figures, at, f"{IDLE} idle, {DRIPPING} dripping"):
            for byte in b"GET /h":
                for sock in held[:DRIPPING]:
                    with contextlib.suppress(OSError):  # cut off: the door's right
                        sock.send(bytes([byte]))
                threading.Event().wait(1)


def rate(folder: Path, count: int) -> float:
    """Requests per second of so many replicas behind a door."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(known_server(None, **REPLICA_PACE)) for _ in range(count)]
        at = stack.enter_context(door(folder, [f"127.0.0.1:{s.port}" for s in servers], SLOTS))
        clients = 2 * SLOTS * count
        made = load(
            Behind(servers[0].port, servers[0].pid, at.at), f"--token-file={at.token_file}",
            f"--clients={clients}", f"--requests={8 * clients}",
            f"--num-predict={REPLICA_PACE['tokens']}",
        )  # fmt: skip
    return float(made.summary["throughput"]["requests_per_second"])


def measure_replicas(figures: Figures, folder: Path) -> None:
    """One replica, then all of them."""
    one, all_of_them = folder / "one", folder / "all"
    one.mkdir()
    all_of_them.mkdir()
    multiple = rate(all_of_them, REPLICAS) / rate(one, 1)
    figures.add(f"{REPLICAS} replicas: times one", multiple, at_least=0.95 * REPLICAS)


def counts(servers: list[KnownServer]) -> list[int]:
    """How many requests each has seen."""
    return [int(server.seen()["requests"]) for server in servers]


def measure_coming(figures: Figures, folder: Path) -> None:
    """One that comes while as many clients ask as the two can serve."""
    folder = folder / "comes"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(known_server(None, **REPLICA_PACE)) for _ in range(2)]
        there = [f"127.0.0.1:{server.port}" for server in servers]
        at = stack.enter_context(door(folder, there[:1], SLOTS, most=2))
        through = Behind(servers[0].port, servers[0].pid, at.at)
        options = [f"--token-file={at.token_file}", f"--clients={4 * SLOTS}", "--duration=12",
                   f"--num-predict={REPLICA_PACE['tokens']}"]  # fmt: skip
        asking = stack.enter_context(ThreadPoolExecutor(1)).submit(load, through, *options)
        while counts(servers)[0] < 4 * SLOTS:
            sleep(0.02)
        at.at_engines(there)
        sleep(SHARE_S)
        before = counts(servers)
        sleep(SHARE_S)
        old, new = (b - a for a, b in zip(before, counts(servers), strict=True))
        asking.result()
    figures.add("comes: part of two, 2 s later", new / (old + new), at_least=0.95 / 2)


def _with_room(server: KnownServer) -> list[str]:
    """The server, by two names, as two engines of 1,024 slots. With one, that many streams would
    fill it, and each millisecond on their way lengthen a queue, which would then be measured."""
    return [f"{host}:{server.port}" for host in ("127.0.0.1", "localhost")]


def measure(figures: Figures, ways: list[str], folder: Path) -> None:
    """One run of each way."""
    front = folder / "front"
    front.mkdir()
    with known_server(**PACE) as server, door(front, _with_room(server), 1024) as at:
        for way in STREAMS:
            if way in ways:
                measure_streams(figures, at, server, way)
        if "query" in ways:
            measure_queries(figures, at)
        if "idle" in ways:
            measure_idle(figures, at)
    if "replicas" in ways:
        measure_replicas(figures, folder)
    if "comes" in ways:
        measure_coming(figures, folder)


def main() -> int:
    """Measure and print."""
    every = [*STREAMS, "query", "idle", "replicas", "comes"]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("ways", nargs="*", metavar="WAY", help="default: all of them")
    given = p.parse_args()
    if unknown := set(given.ways) - set(every):
        p.error(f"{min(unknown)} is none of {', '.join(every)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures = Figures()
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            measure(figures, given.ways or every, Path(folder))
    return 0 if figures.report("The door: median (lowest to highest run)") else 1


if __name__ == "__main__":
    sys.exit(main())
