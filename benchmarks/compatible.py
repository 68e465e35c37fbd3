#!/usr/bin/env python3
"""What the layer that speaks OpenAI's API (client/compatible) adds to a stream.

    .venv/bin/python benchmarks/compatible.py [--runs 3] [--streams 64 256]

The load generator (core 1) has N streams at once of the server with known times (known_server.c,
core 0; TTFT 200 ms, ITL 20 ms, 64 tokens, 4 requests each): straight, by that server's own events,
and through the layer, which takes what the two cores leave it and asks Ollama's /api/chat. What is
added is the difference.

Ends with 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from known import MODEL, KnownServer, known_server
from measuring import PROJECT, Figures, Run, load

PACE = {"ttft": 0.2, "itl": 0.02, "tokens": 64}
EACH = 4
#: What may be added: to the TTFT in the mean, and to the ITL's p99, in ms.
TTFT_MS, ITL_P99_MS = 10.0, 5.0


@dataclass(frozen=True)
class Through(KnownServer):
    """A known server, as it is reached through the layer that answers at `at`; `layer` is the id of
    its process."""

    at: str = ""
    layer: int = 0

    @property
    def url(self) -> str:
        """The layer's."""
        return f"http://{self.at}"


@contextlib.contextmanager
def layer(server: KnownServer) -> Iterator[Through]:
    """The layer in front of a server, in a process of its own on both cores."""
    command = [sys.executable, "-m", "client.compatible", "--listen=127.0.0.1:0"]
    command += [f"--engine=127.0.0.1:{server.port}", f"--model={MODEL}"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        at = process.stdout.readline().split()[-1]
        yield Through(server.port, server.pid, at, process.pid)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def cpu_seconds(pid: int) -> float:
    """That a process has used."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def run(server: KnownServer, streams: int) -> Run:
    """So many streams at once; each asks some times in turn."""
    amount = [f"--clients={streams}", f"--requests={EACH * streams}"]
    made = load(server, "--api=openai", *amount, f"--num-predict={PACE['tokens']}")
    failed = made.summary["requests"]["failed"]
    if failed:
        sys.exit(f"{failed} requests failed: {made.summary['requests']['errors']}")
    return made


def figures_of(made: Run) -> dict[str, float]:
    """In ms."""
    found = made.summary["latency_seconds"]
    wanted = {"TTFT mean": ("ttft", "mean"), "TTFT p99": ("ttft", "p99"), "ITL p99": ("itl", "p99")}
    return {name: 1000 * found[key][stat] for name, (key, stat) in wanted.items()}


def measure(figures: Figures, server: KnownServer, streams: int) -> None:
    """One run straight and one through the layer."""
    straight = figures_of(run(server, streams))
    with layer(server) as through:
        found = figures_of(run(through, streams))
        figures.add(f"{streams} streams: CPU s of the layer", cpu_seconds(through.layer))
    bounds = {"TTFT mean": TTFT_MS, "ITL p99": ITL_P99_MS}
    for name, value in found.items():
        figures.add(f"{streams} streams: {name}, straight", straight[name])
        figures.add(f"{streams} streams: {name}, through", value)
        added = f"{streams} streams: {name}, added"
        figures.add(added, value - straight[name], at_most=bounds.get(name, float("inf")))


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--streams", type=int, nargs="+", default=[64, 256])
    given = p.parse_args()
    figures = Figures()
    with known_server(**PACE) as server:
        for _ in range(given.runs):
            for streams in given.streams:
                measure(figures, server, streams)
    return 0 if figures.report("ms: median (lowest to highest run)") else 1


if __name__ == "__main__":
    sys.exit(main())
