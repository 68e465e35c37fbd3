#!/usr/bin/env python3
"""What the load generator reports against what was true, and whether it knows when it is too slow.

    .venv/bin/python benchmarks/truth.py paced|flood|fast [--runs 3]
    .venv/bin/python benchmarks/truth.py processes|arrivals|starved|healthy [--runs N]

The truth is known_server.c's, on core 0; the load generator is on core 1. A run in which the server
itself was late is done again. Prints medians and spread (least to greatest) of the runs; ends with
1 where a bound is missed. Needs two cores that nobody else uses; `starved` needs root.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from known import KnownServer, known_server
from measuring import Figures, Run, load, punctual, run_pinned
from truth_arrivals import arrivals
from truth_processes import processes
from truth_starved import healthy, starved

CLIENTS = Path(__file__).resolve().parent / "minimal_clients.py"


def floor(server: KnownServer, clients: int, requests: int) -> float:
    """Requests/s of a raw socket client on the same core."""
    command = [sys.executable, str(CLIENTS), "raw", str(server.port), str(clients), str(requests)]
    return json.loads(run_pinned(command).said)["requests_per_second"]


def paced(runs: int) -> bool:
    """256 streams at a human pace: every figure is known beforehand."""
    ttft, itl, tokens, clients = 0.2, 0.02, 64, 256
    e2e, figures = ttft + tokens * itl, Figures()
    for _ in range(runs):
        with known_server(ttft=ttft, itl=itl, tokens=tokens) as server:
            load_it = ("--clients=256", "--requests=3328", "--processes=1")
            run = punctual(lambda at=server, how=load_it: load(at, *how))
        seen = run.summary["latency_seconds"]
        _add_errors(figures, seen, ttft, itl, e2e)
        true = run.seen["ttft_seconds"]["mean"]
        figures.add("TTFT mean error to stamps, ms", (seen["ttft"]["mean"] - true) * 1000)
        rate = run.summary["throughput"]["requests_per_second"] / (clients / e2e)
        figures.add("share of the ideal rate, %", rate * 100, at_least=99.5)
        _add_cost(figures, run)
    return figures.report(f"paced: {clients} streams, TTFT {ttft} s, ITL {itl} s, {tokens} tokens")


def _add_errors(figures: Figures, seen: dict, ttft: float, itl: float, e2e: float) -> None:
    def off(name: str, stat: str, true: float) -> float:
        return (seen[name][stat] - true) * 1000

    figures.add("TTFT mean error, ms", off("ttft", "mean", ttft), at_most=2)
    figures.add("TTFT p50 error, ms", off("ttft", "p50", ttft))
    figures.add("TTFT p99 error, ms", off("ttft", "p99", ttft), at_most=18)
    figures.add("ITL mean error, ms", off("itl", "mean", itl))
    figures.add("ITL p99 error, ms", off("itl", "p99", itl), at_most=1)
    figures.add("E2E mean error, ms", off("e2e", "mean", e2e))


def _add_cost(figures: Figures, run: Run) -> None:
    figures.add("CPU of the load generator, s", run.used.cpu_s, at_most=6.5)
    figures.add("memory of the load generator, MB", run.used.rss_mb, at_most=70)
    figures.add("not valid (1) or valid (0)", not run.summary["validity"]["valid"], at_most=0)
    late = run.seen["lateness_seconds"]
    figures.add("the server's own lateness p99, ms", late["p99"] * 1000)
    figures.add("the server's own CPU, s", run.seen["cpu_seconds"])


def flood(runs: int) -> bool:
    """As many requests as it can: 32 clients, 16 tokens, no pacing.

    Once with an answer in one write, once with a write for each token. The load generator is the
    bottleneck and says so, as it is to.
    """
    good = [_flood(runs, apart=False), _flood(runs, apart=True)]
    return good[0]


def _flood(runs: int, apart: bool) -> bool:
    figures, clients = Figures(), 32
    for _ in range(runs):
        with known_server(tokens=16, **({"apart": True} if apart else {})) as server:
            lowest = floor(server, clients, 40_000)
            run = load(server, "--clients=32", "--requests=40000", "--processes=1")
        rate = run.summary["throughput"]["requests_per_second"]
        figures.add("requests/s", rate, at_least=9400)
        figures.add("requests/s of raw sockets", lowest)
        figures.add("share of raw sockets", rate / lowest, at_least=0.9)
        busy = run.seen["cpu_seconds"] / run.summary["seconds"]["total"]
        figures.add("the server's share of its core, %", busy * 100)
        figures.add("says that it is the limit (1)", run.limited)
    how = "a write a token" if apart else "an answer in one write"
    return figures.report(
        f"flood: 32 clients, 16 tokens, no pacing, {how}", ("requests/s", "share of raw sockets")
    )


def fast(runs: int) -> bool:
    """256 streams at ITL 5 ms: 51,200 tokens/s offered."""
    figures, tokens = Figures(), 64
    for _ in range(runs):
        with known_server(itl=0.005, tokens=tokens) as server:
            lowest = floor(server, 256, 8192) * tokens
            how = ("--clients=256", "--requests=8192", "--processes=1")
            run = punctual(lambda at=server, how=how: load(at, *how), max_late_s=0.0025)
        rate = run.summary["throughput"]["output_tokens_per_second"]
        figures.add("tokens/s", rate, at_least=43_000)
        figures.add("tokens/s of raw sockets", lowest)
        figures.add("share of raw sockets", rate / lowest, at_least=0.97)
        itl = run.summary["latency_seconds"]["itl"]
        figures.add("ITL p99 error, ms", (itl["p99"] - 0.005) * 1000)
        figures.add("CPU of the load generator, s", run.used.cpu_s)
        figures.add("says that it is the limit (1)", run.limited)
        figures.add("the server's lateness p99, ms", run.seen["lateness_seconds"]["p99"] * 1000)
    return figures.report(
        "fast: 256 streams, ITL 0.005 s, 64 tokens", ("tokens/s", "share of raw sockets")
    )


COMMANDS = {
    "paced": (paced, 3),
    "flood": (flood, 3),
    "fast": (fast, 3),
    "processes": (processes, 3),
    "arrivals": (arrivals, 4),
    "starved": (starved, 1),
    "healthy": (healthy, 20),
}


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("what", choices=COMMANDS)
    p.add_argument("--runs", type=int, help="of each kind (default: 3; arrivals 4, healthy 20)")
    given = p.parse_args()
    measure, runs = COMMANDS[given.what]
    return 0 if measure(given.runs or runs) else 1


if __name__ == "__main__":
    sys.exit(main())
