#!/usr/bin/env python3
"""Tokens per second as deployed, and with the best number of threads that one can set by hand.

    .venv/bin/python benchmarks/threads.py [--runs 3] [--tokens 100] [ENGINE ...]

Cases: one core given (as by taskset) and one replica; all cores, and one to three replicas. Each
case is deployed on the local site as it is, and with `num_thread` of 1 to the number of cores, in
turn, so often as `--runs` says. All replicas are asked at once, three times. A figure is the median
of the runs. Ends with 1 if one as deployed is below 0.95 of the best by hand.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from dataclasses import dataclass

from deployments import ENGINES, deployed

AT_LEAST = 0.95
ANSWERS = 3


@dataclass(frozen=True)
class Case:
    """Cores that the deployment may use, and replicas on them."""

    cores: frozenset[int]
    replicas: int

    def __str__(self) -> str:
        return f"{len(self.cores)} core(s), {self.replicas} replica(s)"


def speed(engine: str, case: Case, service: dict[str, int], tokens: int) -> float:
    """Tokens per second of all replicas, each with one client."""
    infrastructure = {"nodes": case.replicas}
    with deployed(engine, service, infrastructure, case.cores) as at:
        return at.speed(case.replicas, ANSWERS * case.replicas, tokens)


def compare(engine: str, case: Case, given: argparse.Namespace) -> bool:
    """Measure one case and print its line; whether it is as it is to be."""
    by_hand = {str(n): {"num_thread": n} for n in range(1, len(case.cores) + 1)}
    ways: dict[str, dict[str, int]] = {"deployed": {}, **by_hand}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for run in range(given.runs):
        for way in sorted(ways, reverse=run % 2 == 1):
            speeds[way].append(speed(engine, case, ways[way], given.tokens))
    medians = {way: statistics.median(values) for way, values in speeds.items()}
    ratio = medians["deployed"] / max(medians[way] for way in by_hand)
    good = ratio >= AT_LEAST
    figures = "  ".join(f"{way}: {value:7.1f}" for way, value in medians.items())
    print(f"{engine:<10} {case!s:<24} {figures}   {ratio:.3f} of the best "
          f"{'OK' if good else 'MISSED'}", flush=True)  # fmt: skip
    return good


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=3, help="of each number of threads")
    p.add_argument("--tokens", type=int, default=100, help="of an answer")
    p.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(ENGINES)}")
    given = p.parse_args()
    engines = given.engines or list(ENGINES)
    every = frozenset(os.sched_getaffinity(0))
    cases = [Case(frozenset({min(every)}), 1), *(Case(every, count) for count in (1, 2, 3))]
    print(f"tokens/s of all replicas, medians of {given.runs} runs; numbers: threads set by hand")
    good = [compare(engine, case, given) for engine in engines for case in cases]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
