#!/usr/bin/env python3
"""Engines side by side: tokens per second of the same model, at 1 to 8 clients.

    .venv/bin/python benchmarks/engines.py [--runs 5] [--tokens 64] [ENGINE ...]

Each engine is deployed on the local site with the same GGUF file, as many slots as there are
clients at most, and as many threads as the machine has cores; one after the other, in an order that
turns round from run to run. All are asked straight, by the API that both speak. Prints medians, and
the lowest and highest run.
"""

from __future__ import annotations

import argparse
import sys

from deployments import ENGINES, deployed
from measuring import Figures

CLIENTS = (1, 2, 4, 8)
#: Answers for each client, so that beginning and end, when not all are at work, weigh little.
ANSWERS = 2


def measure(figures: Figures, engine: str, tokens: int) -> None:
    """One run of an engine, with each number of clients."""
    with deployed(engine, {"num_parallel": max(CLIENTS), "context_length": 1024}) as at:
        for clients in CLIENTS:
            found = at.load(clients, ANSWERS * clients, tokens)
            rate = found["throughput"]["output_tokens_per_second"]
            figures.add(f"{engine}, {clients} client(s), tokens/s", rate)
            ttft = found["latency_seconds"]["ttft"]["p50"]
            figures.add(f"{engine}, {clients} client(s), TTFT p50, ms", 1000 * ttft)


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--tokens", type=int, default=64, help="of an answer")
    p.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(ENGINES)}")
    given = p.parse_args()
    engines = given.engines or list(ENGINES)
    figures = Figures()
    for run in range(given.runs):
        for engine in sorted(engines, reverse=run % 2 == 1):
            measure(figures, engine, given.tokens)
    figures.report("Engines: median (lowest to highest run)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
