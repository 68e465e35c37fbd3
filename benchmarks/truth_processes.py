"""How much more load two processes on two cores hold than one on one.

The server has to run too, on two cores: so it answers with all tokens of a request in one write,
which costs it some hundredths of what they cost the load generator, and runs at a higher priority,
so that it stays in time. What it does use of the second core is taken out: load by free core.
"""

from __future__ import annotations

import os

from known import KnownServer, known_server
from measuring import Figures, Run, load

TTFT_S, TOKENS, SECONDS = 0.2, 64, 3.0
LOWEST, HIGHEST, STEP = 700.0, 9000.0, 1.06


def processes(runs: int) -> bool:
    """The greatest Poisson rate that one and two processes hold: valid, and TTFT true within 2 ms
    (mean) and 10 ms (p99)."""
    figures = Figures()
    for _ in range(runs):
        with known_server(ttft=TTFT_S, tokens=TOKENS) as server:
            os.setpriority(os.PRIO_PROCESS, server.pid, -10)
            one, of_one = greatest(server, 1, (1,))
            two, of_two = greatest(server, 2, (0, 1))
        server_share = of_two.seen["cpu_seconds"] / of_two.summary["seconds"]["total"]
        figures.add("requests/s of one process", one)
        figures.add("requests/s of two processes", two)
        figures.add("two to one, as it is", two / one)
        figures.add("the server's share of a core, %", server_share * 100)
        figures.add("two to one, by free core", two / one * 2 / (2 - server_share), at_least=1.8)
        figures.add("client CPU per request, one, ms", _cost(of_one))
        figures.add("client CPU per request, two, ms", _cost(of_two))
    return figures.report(f"processes: {TOKENS} tokens in one write after {TTFT_S} s")


def greatest(server: KnownServer, number: int, cores: tuple[int, ...]) -> tuple[float, Run]:
    """The greatest rate that is held, within a step, and its run."""
    low, high, best = LOWEST, HIGHEST, None
    while high / low > STEP:
        rate = (low * high) ** 0.5
        how = (f"--rate={rate:.0f}", f"--duration={SECONDS}", f"--processes={number}")
        run = load(server, *how, cores=cores)
        if _is_true(run):
            low, best = rate, run
        else:
            high = rate
    if best is None:
        raise SystemExit(f"{number} processes do not hold {low:.0f} requests/s.")
    return low, best


def _is_true(run: Run) -> bool:
    seen, true = run.summary["latency_seconds"]["ttft"], run.seen["ttft_seconds"]
    off = seen["mean"] - true["mean"], seen["p99"] - true["p99"]
    return run.summary["validity"]["valid"] and off[0] <= 0.002 and off[1] <= 0.010


def _cost(run: Run) -> float:
    """While measuring, without the start and the writing of results."""
    return run.summary["client"]["cpu_seconds"] / len(run.records) * 1000
