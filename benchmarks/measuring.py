"""What the benchmarks of the load generator share: a run of it, and figures of several runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from known import MODEL, KnownServer

PROJECT = Path(__file__).resolve().parent.parent
CLIENT_CORE = 1
#: A server that is later than this says nothing about a client: such a run is done again.
MAX_LATE_P99_S = 0.001
TRIES = 4


@dataclass(frozen=True)
class Used:
    """What a command took: exit code, CPU seconds and greatest memory of it and its children, wall
    time in seconds, what it said."""

    code: int
    cpu_s: float
    rss_mb: float
    wall_s: float
    said: str


def run_pinned(
    command: list[str],
    cores: Iterable[int] = (CLIENT_CORE,),
    first: Callable[[], None] = lambda: None,
    meanwhile: Callable[[int], None] | None = None,
    **more: Any,
) -> Used:
    """Run a command on `cores` and measure what it takes (os.wait4). `first` is called in its
    process before it begins; `meanwhile` with its id, while it runs."""

    def prepare() -> None:
        os.sched_setaffinity(0, set(cores))
        first()

    began = perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, preexec_fn=prepare, **more
        )
        if meanwhile is not None:
            threading.Thread(target=meanwhile, args=(process.pid,), daemon=True).start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = perf_counter() - began
        said.seek(0)
        cpu = usage.ru_utime + usage.ru_stime
        return Used(process.returncode, cpu, usage.ru_maxrss / 1024, wall, said.read())


@dataclass(frozen=True)
class Run:
    """One run of the load generator: its summary and requests.jsonl, what it took, and what the
    server saw of it (`truths`: of each request that was not for the warm-up)."""

    summary: dict[str, Any]
    records: list[dict[str, Any]]
    used: Used
    seen: dict[str, Any]
    truths: list[dict[str, Any]]

    @property
    def limited(self) -> bool:
        """Whether it says that it was too slow itself."""
        return "load_generator" in self.summary["validity"]["codes"]


def load(server: KnownServer, *options: str, seed: int = 0, **how: Any) -> Run:
    """Run the load generator once; `how` as in run_pinned."""
    server.forget()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "loadgen", f"--url={server.url}", f"--model={MODEL}"]
        command += [f"--out={folder}", "--no-report", "--quiet", f"--seed={seed}", *options]
        used = run_pinned(command, cwd=PROJECT, **how)
        if used.code not in (0, 6):
            sys.exit(f"The load generator ended with {used.code}: {used.said}")
        summary = json.loads((Path(folder) / "summary.json").read_text())
        lines = (Path(folder) / "requests.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    of_run = range(seed, seed + len(records))
    truths = [truth for truth in server.requests() if truth["seed"] in of_run]
    return Run(summary, records, used, server.seen(), truths)


def punctual(run: Callable[[], Run], max_late_s: float = MAX_LATE_P99_S) -> Run:
    """A run in which the server was in time; tried again where it was not."""
    for _ in range(TRIES):
        made = run()
        late = made.seen["lateness_seconds"]["p99"]
        if late <= max_late_s:
            return made
        print(f"refused: the server itself was {late * 1000:.2f} ms late (p99); again")
    sys.exit(f"The server was late in {TRIES} runs: this machine cannot tell.")


@dataclass
class Figures:
    """Figures of several runs, with what they are to be."""

    values: dict[str, list[float]] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        value: float,
        at_least: float = float("-inf"),
        at_most: float = float("inf"),
    ) -> None:
        """One run's value of a figure."""
        self.values.setdefault(name, []).append(value)
        self.bounds[name] = (at_least, at_most)

    def median(self, name: str) -> float:
        """Of the runs."""
        return statistics.median(self.values[name])

    def good(self, name: str) -> bool:
        """Whether the median is as it is to be."""
        low, high = self.bounds[name]
        return low <= self.median(name) <= high

    def report(self, title: str, either: tuple[str, ...] = ()) -> bool:
        """Print all; whether all bounds are kept. Of those named in `either` one is enough."""
        print(title)
        for name, values in self.values.items():
            low, high = self.bounds[name]
            bound = f"at most {high:g}" if high < float("inf") else ""
            bound = f"at least {low:g}" if low > float("-inf") else bound
            print(
                f"  {name:<38} {self.median(name):>11,.3f}  "
                f"({min(values):,.3f} to {max(values):,.3f}, n={len(values)})  "
                f"{bound} {'' if self.good(name) else 'MISSED'}".rstrip()
            )
        needed = all(self.good(name) for name in self.values if name not in either)
        return needed and (not either or any(self.good(name) for name in either))
