#!/usr/bin/env python3
"""What other load generators report against what was true, beside ours, under the same load.

    .venv/bin/python benchmarks/peers.py [--runs 3] [--streams 256,64] [--rounds 13] [--only NAMES]

The server with known times (known_server.c, OpenAI's API) answers on core 0: TTFT 200 ms, ITL
20 ms, 64 tokens; the load generator has core 1. STREAMS clients, each ROUNDS requests one after
another. For each tool, of its runs the median and (least to greatest): by how much the TTFT that it
reports is off the server's own stamps (locust rounds percentiles to 10 ms); the share of the
offered load that the server had in flight, in the middle 80 % of the run; CPU time and memory (the
greatest sum over its processes, PSS, and no less than the largest of them) from its start to its
end. Tools take turns, with their defaults. A run in which the server itself was more than 5 ms late
(p99) is done again: less is in neither figure, since the truth is what the server stamped, and some
tools keep the whole machine so busy that it is never better than 2 ms.

Peers are installed from PyPI, at the versions in peer_tools.py, into ~/.cache/orch/peers (or
$ORCH_CACHE_DIR/peers). Needs two cores that nobody else uses.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from known import KnownServer, known_server
from measuring import PROJECT, TRIES, Figures, Used, run_pinned
from peer_tools import LEFT_OUT, TOOLS, Load, Tool, Ttft

TTFT_S, ITL_S, TOKENS = 0.2, 0.02, 64
ANSWER_S = TTFT_S + TOKENS * ITL_S
COLUMNS = (
    "TTFT mean error, ms",
    "TTFT p99 error, ms",
    "offered load, %",
    "CPU, s",
    "memory, MB",
)
SAMPLE_S = 1.0
MAX_LATE_P99_S = 0.005


# --- what a tool takes ---


class Memory:
    """The greatest sum of the memory of a process and its descendants (PSS), sampled."""

    def __init__(self) -> None:
        self.most_mb = 0.0
        self._over = threading.Event()

    def watch(self, pid: int) -> None:
        """Until `end`, or until there is no such process."""
        while not self._over.wait(SAMPLE_S):
            sizes = [_pss_kb(one) for one in descendants(pid)]
            if not sizes:
                return
            self.most_mb = max(self.most_mb, sum(sizes) / 1024)

    def end(self) -> None:
        """No further samples."""
        self._over.set()


def descendants(pid: int) -> Iterator[int]:
    """A process and all that it has started; nothing where it has ended."""
    try:
        paths = list(Path(f"/proc/{pid}/task").glob("*/children"))
        children = [int(child) for path in paths for child in path.read_text().split()]
    except OSError:
        return
    yield pid
    for child in children:
        yield from descendants(child)


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):  # it has just ended
        return 0


# --- a run ---


@dataclass(frozen=True)
class Outcome:
    """A run: what the tool reports and takes, and what the server saw."""

    says: Ttft
    used: Used
    memory_mb: float
    seen: dict[str, Any]
    truths: list[dict[str, Any]]


class ToolFailed(Exception):
    """There is nothing to compare; the message says why, with the end of what the tool said."""


def run(tool: Tool, program: str, server: KnownServer, clients: int, rounds: int) -> Outcome:
    """Once. Raises ToolFailed."""
    server.forget()
    memory = Memory()
    with tempfile.TemporaryDirectory(prefix=f"peer-{tool.name}-") as folder:
        load = Load(server.url, clients, rounds, ANSWER_S, TOKENS, Path(folder))
        command = [program, *tool.command(load)]
        cwd = PROJECT if program == sys.executable else folder
        used = run_pinned(command, meanwhile=memory.watch, cwd=cwd, env=load.environment())
        memory.end()
        try:
            says = tool.read(load.folder)
        except (OSError, LookupError, StopIteration, TypeError, ValueError) as error:
            raise ToolFailed(f"exit code {used.code}, {error!r}: {used.said[-2000:]}") from error
    most_mb = max(memory.most_mb, used.rss_mb)
    return Outcome(says, used, most_mb, server.seen(), server.requests())


def offered_share(truths: Sequence[dict[str, Any]], clients: int) -> float:
    """Requests in flight at the server by those asked for, in the middle 80 % of the run.

    It begins with the first requests but 2 %, which may be a warm-up.
    """
    received = sorted(truth["received"] for truth in truths)
    began = received[len(received) // 50]
    length = received[-1] - began
    low, high = began + 0.1 * length, began + 0.9 * length
    busy = sum(max(0.0, min(high, truth["last"]) - max(low, truth["received"])) for truth in truths)
    return busy / (high - low) / clients


def punctual(tool: Tool, program: str, server: KnownServer, clients: int, rounds: int) -> Outcome:
    """A run in which the server was in time. Raises ToolFailed."""
    for _ in range(TRIES):
        made = run(tool, program, server, clients, rounds)
        late = made.seen["lateness_seconds"]["p99"]
        if late <= MAX_LATE_P99_S:
            return made
        print(f"refused: the server itself was {late * 1000:.2f} ms late (p99); again", flush=True)
    raise ToolFailed(f"the server was late in {TRIES} runs: this machine cannot tell")


def add(figures: Figures, made: Outcome, clients: int) -> None:
    """One run's values, in the order of COLUMNS."""
    ordered = sorted(truth["first"] - truth["received"] for truth in made.truths)
    mean, p99 = sum(ordered) / len(ordered), ordered[int((len(ordered) - 1) * 0.99)]
    values = (
        (made.says.mean - mean) * 1000,
        (made.says.p99 - p99) * 1000,
        offered_share(made.truths, clients) * 100,
        made.used.cpu_s,
        made.memory_mb,
    )
    for name, value in zip(COLUMNS, values, strict=True):
        figures.add(name, value)


# --- all of them ---


def compare(programs: dict[Tool, str], clients: int, runs: int, rounds: int) -> None:
    """All tools at one number of streams, and the table of it."""
    figures = {tool: Figures() for tool in programs}
    with known_server(ttft=TTFT_S, itl=ITL_S, tokens=TOKENS) as server:
        for _ in range(runs):
            for tool, program in programs.items():
                try:
                    add(figures[tool], punctual(tool, program, server, clients, rounds), clients)
                except ToolFailed as error:
                    print(f"{tool.name} fails: {error}", flush=True)
    print(
        f"\n{clients} streams, {clients * rounds} requests, TTFT {TTFT_S} s, ITL {ITL_S} s, "
        f"{TOKENS} tokens: median (least to greatest) of {runs} runs"
    )
    print(f"{'':<10}" + "".join(f"{name:>26}" for name in COLUMNS))
    for tool, of_tool in figures.items():
        cells = [_cell(of_tool, name) for name in COLUMNS if name in of_tool.values]
        print(f"{tool.name:<10}" + "".join(f"{cell:>26}" for cell in cells), flush=True)


def _cell(figures: Figures, name: str) -> str:
    values = figures.values[name]
    return f"{figures.median(name):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> int:
    """Install, measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=3, help="of each tool (default: 3)")
    p.add_argument("--streams", default="256,64", help="clients at once (default: 256,64)")
    p.add_argument("--rounds", type=int, default=13, help="requests of each client (default: 13)")
    p.add_argument("--only", help="tools by name, with commas between")
    given = p.parse_args()
    names = [tool.name for tool in TOOLS] if given.only is None else given.only.split(",")
    for name, why in LEFT_OUT.items():
        print(f"{name} is left out: {why}")
    found = {tool: tool.installed() for tool in TOOLS if tool.name in names}
    programs = {tool: program for tool, program in found.items() if program}
    for clients in map(int, given.streams.split(",")):
        compare(programs, clients, given.runs, given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
