#!/usr/bin/env python3
"""How figures of one and the same load differ from run to run, against known_server.c.

    .venv/bin/python benchmarks/noise.py [--runs 50] > noise.csv

Writes a line for each run: `closed` (8 clients, 4 slots) and `open` (Poisson arrivals at 0.7 of
what 8 slots can do, another seed each time) in turn, with the figures that a campaign shows. A run
that is not valid, or in which the server itself was late by a tenth of a request, is done again.
tests/unit/campaign_noise.csv is such a recording: campaigns are simulated of it.
"""

from __future__ import annotations

import argparse
import sys

from known import known_server
from measuring import PROJECT, load

sys.path.insert(0, str(PROJECT))

from loadgen.measure.run_figures import SHOWN_FIGURES

TTFT, ITL, TOKENS = 0.04, 0.005, 16
MOST_LATE = 0.1 * (TTFT + TOKENS * ITL)
CAPACITY = 8 / (TTFT + TOKENS * ITL)  # requests/s of 8 slots
LOADS = {
    "closed": (4, ("--clients=8", "--requests=120")),
    "open": (8, (f"--rate={0.7 * CAPACITY:.2f}", "--arrivals=poisson", "--requests=160")),
}
FIGURES = [
    figure.key for figure in SHOWN_FIGURES if not figure.key.startswith(("goodput", "energy"))
]


def measured(kind: str, seed: int) -> list[float]:
    """The figures of one run that counts."""
    slots, options = LOADS[kind]
    for more in range(100):
        with known_server(ttft=TTFT, itl=ITL, tokens=TOKENS, slots=slots) as server:
            run = load(server, *options, seed=seed + more)
        late = run.seen["lateness_seconds"]["p99"]
        if run.summary["validity"]["valid"] and late <= MOST_LATE:
            return [_at(run.summary, path) for path in FIGURES]
        print(f"refused: {kind}, the server {late * 1000:.2f} ms late (p99)", file=sys.stderr)
    sys.exit("The server was late, or no run was valid, in 100 runs: this machine cannot tell.")


def _at(summary: object, path: str) -> float:
    for part in path.split("."):
        assert isinstance(summary, dict)
        summary = summary[part]
    assert isinstance(summary, (int, float))
    return summary


def main() -> None:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=50, help="of each kind (default: 50)")
    given = p.parse_args()
    print(",".join(("load", *FIGURES)))
    for run in range(given.runs):
        for kind in LOADS:
            print(",".join((kind, *(f"{value:.6g}" for value in measured(kind, 1000 * run)))))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
