#!/usr/bin/env python3
"""Tokens per second of an engine that is held to one core, alone and beside a busy neighbour.

    .venv/bin/python benchmarks/neighbour.py [--runs 5] [--tokens 100] [ENGINE ...]

The engine is deployed on the local site, held to one core as a job with one is (here by taskset; on
a cluster by ConstrainCores, tests/cluster/test_held_to_cores.py). It is asked in turn without and
with a process on the next core that computes all the time; the load generator is on that one, too.
Ends with 1 if the median beside the neighbour is below 0.9 of that without. It needs two cores, and
nothing else on them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from deployments import ENGINES, Deployed, deployed

AT_LEAST = 0.9
ANSWERS = 3


@contextlib.contextmanager
def busy(core: int) -> Iterator[None]:
    """One that computes all the time, on a core."""
    process = subprocess.Popen(
        [sys.executable, "-c", "while True: pass"],
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def compare(engine: str, at: Deployed, other: int, runs: int, tokens: int) -> bool:
    """Measure an engine and print its line; whether it is as it is to be."""
    alone, beside = [], []
    for _ in range(runs):
        alone.append(at.speed(1, ANSWERS, tokens))
        with busy(other):
            beside.append(at.speed(1, ANSWERS, tokens))
    ratio = statistics.median(beside) / statistics.median(alone)
    figures = "  ".join(
        f"{name}: {statistics.median(found):7.1f} ({min(found):.1f} to {max(found):.1f})"
        for name, found in (("alone", alone), ("beside", beside))
    )
    print(f"{engine:<10} {figures}   {ratio:.3f} {'OK' if ratio >= AT_LEAST else 'MISSED'}")
    return ratio >= AT_LEAST


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=5, help="without and with a neighbour each")
    p.add_argument("--tokens", type=int, default=100, help="of an answer")
    p.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(ENGINES)}")
    given = p.parse_args()
    own, other, *_ = sorted(os.sched_getaffinity(0))
    print(
        f"tokens/s of one replica on core {own}, medians (lowest to highest) of {given.runs} runs"
    )
    good = []
    for engine in given.engines or ENGINES:
        with deployed(engine, {}, {}, frozenset({own})) as at:
            good.append(compare(engine, at, other, given.runs, given.tokens))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
