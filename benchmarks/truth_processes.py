"""How much more load two processes on two cores hold than one on one.

The cost of the server is taken out by giving each core its own: one process shares core 1 with a
server; two processes share cores 0 and 1 with a server on each, between which they spread their
requests. So what the server takes of a core is the same for both, and only the scaling of the load
generator is left. The servers answer with all tokens of a request in one write, which costs them
some hundredths of what it costs the load generator, and run at a higher priority, so that they stay
in time.

Two cores of a virtual machine are often threads of one real core, or not always ours, and then
bear less than twice the load of one whatever runs on them; what crosses from one to the other costs
more, too. So two load generators that know nothing of each other, each on its core, say in the same
run what the machine gives with the same two servers, and two processes of one are to hold 0.9 of
it: 1.8 times the load of one where the cores are whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from known import KnownServer, known_server
from measuring import Figures, Run, load

TTFT_S, TOKENS, SECONDS = 0.2, 64, 3.0
LOWEST, HIGHEST, STEP = 700.0, 9000.0, 1.06
MEAN_S, P99_S = 0.002, 0.010
#: One run of three may be spoiled by what else the machine does.
TRIES = 3
#: Seeds of one load generator's requests, more than it sends.
SEEDS = 1_000_000

#: The cores of each load generator, which has a process on each; there is a server on each core.
Ways = Sequence[Sequence[int]]
ONE: Ways = [[1]]
TWO: Ways = [[0, 1]]
APART: Ways = [[0], [1]]


def processes(runs: int) -> bool:
    """The greatest Poisson rate that one and two processes, and two load generators apart, hold:
    TTFT true within 2 ms on average, and within 10 ms for 99 of 100 requests."""
    figures = Figures()
    for _ in range(runs):
        one, of_one = greatest(ONE)
        two, of_two = greatest(TWO)
        apart, _ = greatest(APART)
        figures.add("requests/s of one process", one)
        figures.add("requests/s of two processes", two)
        figures.add("requests/s of two load generators apart", apart)
        figures.add("two to one", two / one)
        figures.add("two apart to one: what the machine gives", apart / one)
        figures.add("two to two apart", two / apart, at_least=0.9)
        figures.add("client CPU per request, one, ms", _cost(of_one))
        figures.add("client CPU per request, two, ms", _cost(of_two))
    return figures.report(f"processes: {TOKENS} tokens in one write after {TTFT_S} s")


def greatest(ways: Ways) -> tuple[float, Run]:
    """The greatest rate that they hold together, within a step, and a run of the first of them."""
    with _servers(ways) as servers:
        low, high, best = LOWEST, HIGHEST, None
        while high / low > STEP:
            rate = (low * high) ** 0.5
            held = _held(ways, servers, rate)
            if held is None:
                high = rate
            else:
                low, best = rate, held
    if best is None:
        raise SystemExit(f"Load generators on cores {ways} do not hold {LOWEST:.0f} requests/s.")
    return low, best


@contextlib.contextmanager
def _servers(ways: Ways) -> Iterator[Sequence[KnownServer]]:
    """One for each core."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(known_server(core, ttft=TTFT_S, tokens=TOKENS))
            for cores in ways
            for core in cores
        ]
        for server in made:
            os.setpriority(os.PRIO_PROCESS, server.pid, -10)
        yield made


def _held(ways: Ways, servers: Sequence[KnownServer], rate: float) -> Run | None:
    """A run that holds it, if most of them do."""
    held: list[Run] = []
    for tried in range(TRIES):
        run = _try(ways, servers, rate)
        if run is not None:
            held.append(run)
        if len(held) > TRIES / 2 or tried + 1 - len(held) > TRIES / 2:
            break
    return held[0] if len(held) > TRIES / 2 else None


def _try(ways: Ways, servers: Sequence[KnownServer], rate: float) -> Run | None:
    """All load generators at once, each with its part; a run of the first if all are true."""

    urls = [f"--url={server.url}" for server in servers[1:]]

    def one(number: int) -> Run | None:
        cores, first = ways[number], number * SEEDS
        part = f"--rate={rate * len(cores) / len(servers):.0f}"
        how = (part, f"--duration={SECONDS}", f"--processes={len(cores)}", *urls)
        run = load(servers[0], *how, seed=first, cores=cores)
        return run if _is_true(run, servers, first) else None

    for server in servers:
        server.forget()
    with ThreadPoolExecutor(len(ways)) as pool:
        runs = list(pool.map(one, range(len(ways))))
    return runs[0] if all(runs) else None


def _is_true(run: Run, servers: Sequence[KnownServer], first: int) -> bool:
    """`first`: the seed of its first request."""
    seen = [truth for server in servers for truth in server.requests()]
    true = {truth["seed"] - first: truth["first"] - truth["received"] for truth in seen}
    off = sorted(r["ttft"] - true[r["request"]] for r in run.records if r["ttft"] is not None)
    whole = len(off) == len(run.records)
    return whole and sum(off) / len(off) <= MEAN_S and off[int(len(off) * 0.99)] <= P99_S


def _cost(run: Run) -> float:
    """While measuring, without the start and the writing of results."""
    return run.summary["client"]["cpu_seconds"] / len(run.records) * 1000
