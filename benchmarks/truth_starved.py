"""Whether the load generator knows when it is too slow, before a figure is off by more than 5 %;
and never says so when it is not.

Starved in three ways: by a busy loop on its core, with nice values against it; by a quota of CPU
time (the kernel's cgroup v1 cpu controller); by pauses of 50 ms (SIGSTOP, SIGCONT).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from known import known_server
from measuring import CLIENT_CORE, Run, load, punctual

CGROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 100_000
ALLOWED = 0.05
#: From its start to the midst of its measuring.
RUNNING_AFTER_S, BETWEEN_PAUSES_S, PAUSE_S = 2.5, 0.3, 0.05


@dataclass(frozen=True)
class Load:
    """A closed loop of which every figure is known beforehand."""

    name: str
    clients: int
    requests: int
    ttft: float
    itl: float
    tokens: int

    @property
    def e2e(self) -> float:
        """Seconds."""
        return self.ttft + self.tokens * self.itl

    def run(self, **how: Any) -> Run:
        """Once, with the server in time."""
        with known_server(ttft=self.ttft, itl=self.itl, tokens=self.tokens) as server:
            options = (f"--clients={self.clients}", f"--requests={self.requests}")
            punctually = ALLOWED * self.itl
            return punctual(lambda: load(server, *options, "--processes=1", **how), punctually)


MODERATE = Load("64 at 20 ms", 64, 448, 0.2, 0.02, 32)
FAST = Load("128 at 5 ms", 128, 1024, 0.2, 0.005, 64)


# --- by how much the figures are off ---


def worst(run: Run, what: Load) -> tuple[float, str]:
    """By which share the worst of the reported figures is off, and its name."""
    late = run.seen["lateness_seconds"]
    truths = {
        "ttft": sorted(truth["first"] - truth["received"] for truth in run.truths),
        "e2e": sorted(truth["last"] - truth["received"] for truth in run.truths),
    }
    found = []
    for name, ordered in truths.items():
        for stat, true in _stats(ordered).items():
            found.append(_off(run, name, stat, true, 0.0))
    for stat in ("mean", "p50", "p90", "p95", "p99", "max"):
        slack = late["max"] if stat == "max" else late["p99"]
        found.append(_off(run, "itl", stat, what.itl, 0.0 if stat in ("mean", "p50") else slack))
    tpot = what.tokens * what.itl / (what.tokens - 1)
    found += [_off(run, "tpot", stat, tpot, 0.0) for stat in ("mean", "p50", "p99")]
    ideal = what.clients / what.e2e
    for name, true in (("requests", ideal), ("output_tokens", ideal * what.tokens)):
        got = run.summary["throughput"][f"{name}_per_second"]
        found.append((abs(got / true - 1), f"{name}/s"))
    return max(found)


def _stats(ordered: list[float]) -> dict[str, float]:
    n = len(ordered)
    at = {f"p{p}": ordered[round((n - 1) * p / 100)] for p in (50, 90, 95, 99)}
    return {"mean": sum(ordered) / n, **at, "max": ordered[-1]}


def _off(run: Run, name: str, stat: str, true: float, slack: float) -> tuple[float, str]:
    """`slack`: by how much the server may have been late itself."""
    got = run.summary["latency_seconds"][name][stat]
    if got is None:  # too few requests: it is not reported
        return 0.0, name
    return max(0.0, abs(got - true) - slack) / true, f"{name} {stat}"


# --- ways to starve ---


@contextlib.contextmanager
def busy_loop() -> Iterator[None]:
    """Another program that wants the core."""
    endless = subprocess.Popen(
        [sys.executable, "-c", "while True: pass"],
        preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CORE}),
    )
    try:
        yield
    finally:
        endless.kill()
        endless.wait()


@contextlib.contextmanager
def quota(share: float) -> Iterator[Callable[[], None]]:
    """A cgroup with a share of a core; call what it gives in the process that is to be in it."""
    group = Path(tempfile.mkdtemp(prefix="loadgen-", dir=CGROUPS))
    (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (group / "cpu.cfs_quota_us").write_text(str(int(share * PERIOD_US)))

    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        yield join
    finally:
        group.rmdir()


def pauses(number: int) -> Callable[[int], None]:
    """Hold a process up, `number` times."""

    def pause(pid: int) -> None:
        time.sleep(RUNNING_AFTER_S)
        for _ in range(number):
            with contextlib.suppress(ProcessLookupError):  # it has ended before
                os.kill(pid, signal.SIGSTOP)
                time.sleep(PAUSE_S)
                os.kill(pid, signal.SIGCONT)
            time.sleep(BETWEEN_PAUSES_S)

    return pause


# --- the benchmarks ---


def starved(runs: int) -> bool:
    """Each way to starve it, at several strengths, with two loads, `runs` times."""
    good = True
    for what in (MODERATE, FAST):
        for name, run in (case for _ in range(runs) for case in _cases(what)):
            good = _judge(f"{what.name}, {name}", run, what) and good
    return good


def _cases(what: Load) -> Iterator[tuple[str, Run]]:
    for nice in (0, 5, 10, 19) if what is MODERATE else (0, 5, 10):
        with busy_loop():
            yield f"a busy loop, nice {nice}", what.run(first=lambda n=nice: os.nice(n) and None)
    if os.access(CGROUPS, os.W_OK):
        for share in (0.75, 0.5, 0.25, 0.15, 0.1):
            with quota(share) as join:
                yield f"{share:.0%} of a core", what.run(first=join)
    else:
        print("no quota: there is no cgroup v1 cpu controller that can be written")
    for number in (1, 3, 8):
        yield f"{number} pauses of 50 ms", what.run(meanwhile=pauses(number))


def _judge(name: str, run: Run, what: Load) -> bool:
    off, figure = worst(run, what)
    good = off <= ALLOWED or run.limited
    verdict = "limited by the load generator" if run.limited else "not declared"
    print(
        f"{name:<40} worst figure off by {off:7.1%} ({figure:<12}) {verdict}"
        f"{'' if good else '  MISSED'}",
        flush=True,
    )
    return good


def healthy(runs: int) -> bool:
    """Runs with all the CPU time there is: none may be declared limited."""
    declared = wrong = 0
    for number in range(runs):
        what = (MODERATE, FAST)[number % 2]
        run = what.run()
        off, figure = worst(run, what)
        declared += not run.summary["validity"]["valid"]
        wrong += off > ALLOWED
        said = "".join(run.summary["validity"]["reasons"]) or "valid"
        print(f"{what.name}: worst figure off by {off:.1%} ({figure}), {said}", flush=True)
    print(f"healthy: {declared} of {runs} declared not valid, {wrong} with a figure off by > 5 %")
    return declared == 0
