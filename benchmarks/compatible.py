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
from statistics import mean

from known import MODEL, KnownServer, known_server
from measuring import PROJECT, Figures, Run, load

PACE = {"ttft": 0.2, "itl": 0.02, "tokens": 64}
EACH = 4
#: What the machine may do to a run: hold up the load generator, and the server.
MAX_LAG_S, MAX_LATE_S, TRIES = 0.03, 0.01, 8
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


def _cpu_seconds(server: KnownServer) -> float:
    """That the layer has used, if the server is reached through it."""
    if not isinstance(server, Through):
        return 0.0
    stat = Path(f"/proc/{server.layer}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def run(server: KnownServer, streams: int) -> tuple[Run, float]:
    """So many streams at once, each asking some times in turn, and the layer's CPU seconds. Done
    again where the machine held up the load generator or the server: that says nothing of it."""
    amount = [f"--clients={streams}", f"--requests={EACH * streams}"]
    for _ in range(TRIES):
        before = _cpu_seconds(server)
        made = load(server, "--api=openai", *amount, f"--num-predict={PACE['tokens']}")
        failed = made.summary["requests"]["failed"]
        if failed:
            sys.exit(f"{failed} requests failed: {made.summary['requests']['errors']}")
        lag = made.summary["client"]["loop_lag_seconds"]["max"]
        late = made.seen["lateness_seconds"]["p99"]
        if lag < MAX_LAG_S and late < MAX_LATE_S:
            return made, _cpu_seconds(server) - before
        print(f"refused: the load generator stood still for {lag:.3f} s, "
              f"the server was {late:.4f} s late (p99); again")  # fmt: skip
    sys.exit(f"This machine was too busy in {TRIES} runs.")


def figures_of(made: Run, streams: int) -> dict[str, float]:
    """In ms. The first requests come all at once, on connections that nobody has used yet."""
    found = made.summary["latency_seconds"]
    ttfts = [one["ttft"] for one in sorted(made.records, key=lambda one: one["sent"])]
    return {
        "TTFT mean": 1000 * found["ttft"]["mean"],
        "TTFT mean of the first": 1000 * mean(ttfts[:streams]),
        "TTFT mean of others": 1000 * mean(ttfts[streams:]),
        "TTFT p99": 1000 * found["ttft"]["p99"],
        "ITL p99": 1000 * found["itl"]["p99"],
    }


def measure(figures: Figures, server: KnownServer, streams: int) -> None:
    """One run straight and one through the layer."""
    straight = figures_of(run(server, streams)[0], streams)
    with layer(server) as through:
        made, used = run(through, streams)
        found = figures_of(made, streams)
        chunks = EACH * streams * PACE["tokens"]
        figures.add(f"{streams}: CPU of the layer, us a chunk", 1e6 * used / chunks)
    bounds = {"TTFT mean": TTFT_MS, "ITL p99": ITL_P99_MS}
    for name, value in found.items():
        figures.add(f"{streams}: {name}, straight", straight[name])
        added = f"{streams}: {name}, added"
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
    return 0 if figures.report("Streams, ms: median (lowest to highest run)") else 1


if __name__ == "__main__":
    sys.exit(main())
