#!/usr/bin/env python3
"""What monitoring costs a node: CPU and memory of the exporters and of the client's /metrics at a
scrape each 5 s, the latency of /query with and without it, and the series that 10,000 requests add.

    .venv/bin/python benchmarks/monitoring_cost.py [--seconds 60] [--runs 5]

The client service, the exporters and Debian's node exporter are real, on one core (1); Ollama is
the server with known times (known_server.c). Prometheus' part, a GET of each target every 5 s, is
done from the other core. With and without take turns. Ends with 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from urllib.request import urlopen

import uvloop
from client_overhead import PACE, SERVER_CORE, SERVICE_CORE, in_flight, request, service
from known import known_server
from measuring import PROJECT, Figures

from loadgen.measure.stats import percentile

EVERY_S, AT_ONCE, EACH = 5.0, 16, 6
CLIENTS, OF_EACH = 100, 100
MAX_CPU, MAX_MB = 1.0, 60.0
#: As lib/monitoring.sh starts it.
COLLECTORS = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "pressure", "stat",
              "time", "uname")  # fmt: skip


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def exporters(ollama: int) -> Iterator[dict[str, tuple[int, int]]]:
    """The node's and Ollama's exporter, on the service's core: process id and port by name."""
    program = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if program is None:
        sys.exit("There is no node exporter: install Debian's prometheus-node-exporter.")
    node, own = free_port(), free_port()
    commands = {
        "node exporter": [program, f"--web.listen-address=127.0.0.1:{node}",
                          "--web.disable-exporter-metrics", "--collector.disable-defaults",
                          "--log.level=error", *(f"--collector.{name}" for name in COLLECTORS)],
        "Ollama's exporter": [sys.executable, "-m", "exporters", f"--listen=127.0.0.1:{own}",
                              f"--ollama=http://127.0.0.1:{ollama}"],
    }  # fmt: skip
    started = {name: _start(command) for name, command in commands.items()}
    ports = dict(zip(commands, (node, own), strict=True))
    try:
        for port in ports.values():
            _until_it_answers(port)
        yield {name: (process.pid, ports[name]) for name, process in started.items()}
    finally:
        for process in started.values():
            process.terminate()
            process.wait()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, "GOMAXPROCS": "1"},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVICE_CORE}),
    )


def _until_it_answers(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            scrape(port)
            return
        sleep(0.05)
    sys.exit(f"Nothing answers on port {port}.")


def scrape(port: int) -> None:
    """As Prometheus does it."""
    urlopen(f"http://127.0.0.1:{port}/metrics", timeout=4).read()


@contextlib.contextmanager
def scraped(ports: list[int]) -> Iterator[None]:
    """All of them every 5 s."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(EVERY_S):
            for port in ports:
                scrape(port)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cpu_seconds(pid: int) -> float:
    """Of one process so far."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Its share of memory (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (pss,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(pss) / 1024


def cost(figures: Figures, seconds: float) -> None:
    """CPU and memory while nothing else happens: all of it is the scrapes'."""
    with (
        known_server(**PACE) as server,
        service(server.port) as (port, parent),
        exporters(server.port) as found,
    ):
        (worker,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        pids = {name: pid for name, (pid, _) in found.items()} | {"client's /metrics": int(worker)}
        with scraped([port, *(port for _, port in found.values())]):
            sleep(2 * EVERY_S)  # what the first scrapes load is there
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            sleep(seconds)
            shares = {n: 100 * (cpu_seconds(p) - before[n]) / seconds for n, p in pids.items()}
        for name, share in shares.items():
            figures.add(f"{name}, % of a core", share)
        for name, (pid, _) in found.items():
            figures.add(f"{name}, MB", memory_mb(pid))
        figures.add("all, % of a core", sum(shares.values()), at_most=MAX_CPU)
        every = sum(memory_mb(pid) for pid, _ in found.values())
        figures.add("the exporters, MB", every, at_most=MAX_MB)


def latency(figures: Figures) -> None:
    """One run without and one with monitoring, whole and to the first piece."""
    for watched in (False, True):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(known_server(**PACE))
            port, _ = stack.enter_context(service(server.port))
            if watched:
                found = stack.enter_context(exporters(server.port))
                ports = [port, *(port for _, port in found.values())]
                stack.enter_context(scraped(ports))
            sleep(1)
            seen = uvloop.run(_ask(port))
        name = "with" if watched else "without"
        for what, values in (("first", seen.first), ("end", seen.whole)):
            for percent in (50, 99):
                value = percentile(sorted(values), percent) * 1000
                figures.add(f"{what}, p{percent}, ms, {name}", value)


def cardinality(figures: Figures) -> None:
    """Series after one request, and after many of many clients."""
    with known_server(tokens=2) as server, service(server.port) as (port, _):
        uvloop.run(in_flight(1, port, request("/query", False), 0.0, float("inf"), 1))
        series(port)  # the first scrape is a request of another kind, too
        before = series(port)
        uvloop.run(in_flight(CLIENTS, port, request("/query", False), 0.0, float("inf"), OF_EACH))
        figures.add("series", len(before))
        figures.add("series more", len(series(port) - before), at_most=0)


def series(port: int) -> set[str]:
    """Names and labels of what a scrape gives."""
    lines = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=4).read().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def _ask(port: int):  # type: ignore[no-untyped-def] # Times
    data, answer_s = request("/query", True), PACE["ttft"] + PACE["tokens"] * PACE["itl"]
    return await in_flight(AT_ONCE, port, data, answer_s, float("inf"), EACH)


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--seconds", type=float, default=60, help="of idling (default: 60)")
    p.add_argument("--runs", type=int, default=5, help="of /query, each way (default: 5)")
    given = p.parse_args()
    os.sched_setaffinity(0, {SERVER_CORE})
    costs, added, many = Figures(), Figures(), Figures()
    cost(costs, given.seconds)
    good = costs.report("A scrape each 5 s")
    for _ in range(given.runs):
        latency(added)
    added.report(f"/query, streamed, {AT_ONCE} in flight, alternately")
    cardinality(many)
    good &= many.report(f"{CLIENTS * OF_EACH:,} requests from {CLIENTS} clients")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
