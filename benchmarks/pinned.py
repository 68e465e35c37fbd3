#!/usr/bin/env python3
"""Tokens per second of a deployment that has one core, alone and beside a busy neighbour.

    .venv/bin/python benchmarks/pinned.py [--runs 5] [--tokens 100] [ENGINE ...]

The deployment may use one core (as by taskset), and takes one thread; the neighbour spins on all of
the others. Both ways in turn, so often as `--runs` says. Ends with 1 if the median beside the
neighbour is below 0.9 of the one alone, or if there is one core only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from deployments import ENGINES, deployed

AT_LEAST = 0.9


@contextlib.contextmanager
def busy(cores: frozenset[int]) -> Iterator[None]:
    """A process that spins on each of some cores, as long as the context lasts."""
    spin = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(["taskset", "-c", str(core), *spin]) for core in cores]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def compare(
    engine: str, own: frozenset[int], others: frozenset[int], runs: int, tokens: int
) -> bool:
    """Measure an engine and print its line; whether it is as it is to be."""
    alone: list[float] = []
    beside: list[float] = []
    with deployed(engine, {}, cores=own) as at:
        for _ in range(runs):
            alone.append(at.speed(1, 1, tokens))
            with busy(others):
                beside.append(at.speed(1, 1, tokens))
    ratio = statistics.median(beside) / statistics.median(alone)
    print(
        f"{engine}: tokens/s on one core, medians of {runs}: alone {statistics.median(alone):.1f}, "
        f"beside a busy neighbour {statistics.median(beside):.1f}: {ratio:.3f} "
        f"{'OK' if ratio >= AT_LEAST else 'MISSED'}",
        flush=True,
    )
    return ratio >= AT_LEAST


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=5, help="each way")
    p.add_argument("--tokens", type=int, default=100, help="of an answer")
    p.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(ENGINES)}")
    given = p.parse_args()
    every = frozenset(os.sched_getaffinity(0))
    own = frozenset({min(every)})
    if every == own:
        sys.exit("there is one core only: a neighbour would be on the deployment's own")
    good = [compare(engine, own, every - own, given.runs, given.tokens)
            for engine in given.engines or ENGINES]  # fmt: skip
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
