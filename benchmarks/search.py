#!/usr/bin/env python3
"""Whether the search for the highest rate within an SLO finds a limit that is known.

    .venv/bin/python benchmarks/search.py [--searches 20] [--first 1] [--requests 4000]

Each search is of campaign/search.py, from 1 to 200 requests/s for 95 % of requests in time; each of
its runs is one of the load generator against known_server.c with 8 slots. In truth the limit is
known_queue.py's. Ends with 1 if a search is further off than 5 % or takes more than 10 runs. A
search takes some minutes; it needs two cores that nobody else uses.
"""

from __future__ import annotations

import argparse
import sys

from known import known_server
from known_queue import Queue
from measuring import PROJECT, load

sys.path.insert(0, str(PROJECT))

from campaign.search import Search

TTFT, ITL, TOKENS, SLOTS, WAIT = 0.02, 0.002, 16, 8, 0.013
GOOD, LOW, HIGH = 0.95, 1.0, 200.0
MOST_OFF, MOST_RUNS = 0.05, 10


def search(requests: int, seed: int) -> Search:
    """One search against a server of its own."""
    found = Search(LOW, HIGH, GOOD)
    with known_server(ttft=TTFT, itl=ITL, tokens=TOKENS, slots=SLOTS) as server:
        while (rate := found.next()) is not None:
            how = (f"--rate={rate:.4f}", "--arrivals=poisson", f"--requests={requests}")
            slo = f"--goodput=ttft:{TTFT + WAIT}"
            goodput = load(server, *how, slo, seed=seed + found.estimate.runs * requests).summary[
                "goodput"
            ]
            found.tell(rate, round(goodput["share"] * requests), requests)
            print(f"    {rate:8.2f} requests/s: {goodput['share']:.1%} in time", flush=True)
    return found


def main() -> int:
    """Search and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--searches", type=int, default=20)
    p.add_argument("--first", type=int, default=1, help="number of the first (default: 1)")
    p.add_argument("--requests", type=int, default=4000, help="of each run (default: 4000)")
    given = p.parse_args()
    true = Queue(SLOTS, TTFT + TOKENS * ITL, WAIT).limit(GOOD)
    print(f"in truth: {true:.2f} requests/s")
    missed = 0
    for number in range(given.first, given.first + given.searches):
        found = search(given.requests, seed=10**6 * number).estimate
        off = found.value / true - 1
        missed += abs(off) > MOST_OFF or found.runs > MOST_RUNS
        print(
            f"search {number}: {found.value:.2f} ({found.low:.2f} to {found.high:.2f}), "
            f"{off:+.1%}, {found.runs} runs"
        )
    print(f"{given.searches - missed} of {given.searches} within {MOST_OFF:.0%}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
