"""How much more load two processes on two cores hold than one on one.

The cost of the server is taken out by giving each core its own: one process shares core 1 with a
server; two processes share cores 0 and 1 with a server on each, between which they spread their
requests. So what the server takes of a core is the same for both, and only the scaling of the load
generator is left. The servers answer with all tokens of a request in one write, which costs them
some hundredths of what it costs the load generator, and run at a higher priority, so that they stay
in time.

Two cores of a virtual machine are often threads of one real core, or not always ours, and then
each does less where the other is busy, whatever runs on it. So two load generators that know
nothing of each other, each on its core with its server, say in the same run what one process holds
while the other core is as busy: half of theirs. Two processes of one are to hold 1.8 times that, or
1.8 times what one holds while the other core idles; they are the same where the cores are whole.

Such a machine is fast in one second and slow in the next, so that a search that halves an interval
ends wherever one slow second sent it. The three ways take turns instead, and each goes up and down:
a higher rate after one that held, a lower one after one that did not. The mean of what was tried is
the rate that half the tries hold (the up-and-down method of Dixon and Mood, J. Am. Stat. Assoc. 43,
1948), and a slow minute is one for all three.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from known import KnownServer, known_server
from measuring import Figures, Run, load

TTFT_S, TOKENS, SECONDS = 0.2, 64, 2.5
MEAN_S, P99_S = 0.002, 0.010
#: Tries of each way in a run.
ROUNDS = 24
#: Requests/s of a core with which it begins, and the factors by which it goes up and down.
FIRST, WIDEST, STEP = 1500.0, 1.4, 1.05
#: Seeds of one load generator's requests, more than it sends.
SEEDS = 1_000_000

TO_IDLE = "two to one, the other core idle"
TO_BUSY = "two to one, the other core as busy"

#: The cores of each load generator, which has a process on each; there is a server on each core.
Ways = Sequence[Sequence[int]]
TWO: Ways = [[0, 1]]
APART: Ways = [[0], [1]]


@dataclass
class Stairs:
    """The rates that a way was tried with, in requests/s; wide steps until it comes down."""

    rate: float
    factor: float = WIDEST
    held: bool | None = None
    tried: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def step(self, cost: float | None) -> None:
        """The next rate, after one that held (at this cost, ms of CPU per request) or did not."""
        held = cost is not None
        if self.held not in (held, None):
            self.factor = max(STEP, self.factor**0.5)
        if self.factor == STEP:
            self.tried.append(self.rate)
        if cost is not None:
            self.costs.append(cost)
        self.held = held
        self.rate *= self.factor if held else 1 / self.factor

    @property
    def found(self) -> float:
        """The rate that half the tries hold."""
        if not self.tried or not self.costs:
            raise SystemExit(f"{ROUNDS} tries did not find a rate that holds.")
        return statistics.geometric_mean(self.tried)


def processes(runs: int) -> bool:
    """The Poisson rate that one and two processes, and two load generators apart, hold: TTFT true
    within 2 ms on average, and within 10 ms for 99 of 100 requests."""
    figures = Figures()
    for _ in range(runs):
        one, two, apart = _climb()
        figures.add("requests/s of one process", one.found)
        figures.add("requests/s of two processes", two.found)
        figures.add("requests/s of two load generators apart", apart.found)
        figures.add(TO_IDLE, two.found / one.found, at_least=1.8)
        figures.add(TO_BUSY, two.found / (apart.found / 2), at_least=1.8)
        figures.add("two apart to one: what the machine gives", apart.found / one.found)
        for name, stairs in (("one", one), ("two", two), ("apart", apart)):
            figures.add(f"client CPU per request, {name}, ms", statistics.median(stairs.costs))
    title = f"processes: {TOKENS} tokens in one write after {TTFT_S} s"
    return figures.report(title, (TO_IDLE, TO_BUSY))


def _climb() -> tuple[Stairs, Stairs, Stairs]:
    """Of one process, of two, and of two load generators apart: a try of each in turn."""
    one, two, apart = Stairs(FIRST), Stairs(2 * FIRST), Stairs(2 * FIRST)
    with _servers() as servers:
        for number in range(ROUNDS):
            core = number % 2  # they may differ
            one.step(_try([[core]], [servers[core]], one.rate))
            two.step(_try(TWO, servers, two.rate))
            apart.step(_try(APART, servers, apart.rate))
    return one, two, apart


@contextlib.contextmanager
def _servers() -> Iterator[Sequence[KnownServer]]:
    """One for each core."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(known_server(core, ttft=TTFT_S, tokens=TOKENS)) for core in (0, 1)
        ]
        for server in made:
            os.setpriority(os.PRIO_PROCESS, server.pid, -10)
        yield made


def _try(ways: Ways, servers: Sequence[KnownServer], rate: float) -> float | None:
    """All load generators at once, each with its part: what a request costs them, in ms of CPU.

    None where one of them is not true.
    """
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
        runs = [run for run in pool.map(one, range(len(ways))) if run is not None]
    if len(runs) < len(ways):
        return None
    cpu_s = sum(run.summary["client"]["cpu_seconds"] for run in runs)
    return 1000 * cpu_s / sum(len(run.records) for run in runs)


def _is_true(run: Run, servers: Sequence[KnownServer], first: int) -> bool:
    """`first`: the seed of its first request."""
    seen = [truth for server in servers for truth in server.requests()]
    true = {truth["seed"] - first: truth["first"] - truth["received"] for truth in seen}
    off = sorted(r["ttft"] - true[r["request"]] for r in run.records if r["ttft"] is not None)
    whole = len(off) == len(run.records)
    return whole and sum(off) / len(off) <= MEAN_S and off[int(len(off) * 0.99)] <= P99_S
