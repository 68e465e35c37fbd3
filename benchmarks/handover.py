#!/usr/bin/env python3
"""What a service that outlives its jobs costs those who ask it: ten minutes of jobs of two minutes.

    sudo PYTHONPATH=tests:tests/cluster .venv/bin/python benchmarks/handover.py [--seconds 600]

Real Slurm (tests/cluster/testcluster, which it sets up and takes down), 8 streams a second in an
open loop through the door the whole time (open_loop.py), by one token. The engine is one with known
times, a stand-in of vLLM: TTFT 0.2 s, 20 tokens/s; or a real one with --engine ollama. The window
of a hand-over is from the beginning of the next engine's job to the end of the old one's, as
Slurm accounts for them; TTFT counts from when a stream was due. Ends with 1 where a bound is
missed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chains import Chain, Job, Watch, begin, paced
from measuring import Figures
from open_loop import Stream, percentile
from project import Project
from slurmcluster import Cluster, lock, testcluster

MOST_OF_OUTSIDE, MOST_BEYOND_S = 1.2, 60.0


@dataclass(frozen=True)
class Window:
    """A hand-over, in seconds: when the next engine's job began and the old one's ended (since
    1970), and how long the next one took until it published its address."""

    number: int
    begin: float
    end: float
    ready_s: float

    @property
    def overlap_s(self) -> float:
        """How long both had their GPUs."""
        return self.end - self.begin


@contextlib.contextmanager
def installed() -> Iterator[Project]:
    """The project on a test cluster of its own."""
    with lock():
        cluster = Cluster()
        try:
            testcluster("install")
            cluster.down()
            cluster.up()
            project = Project(cluster)
            project.install()
            yield project
        finally:
            cluster.down()


@contextlib.contextmanager
def engine(project: Project, name: str) -> Iterator[dict[str, Any]]:
    """What the recipe says of it."""
    if name == "ollama":
        yield {"num_parallel": 8}
        return
    with paced(project) as (recipe, _):
        yield recipe


def windows(chain: Chain, jobs: list[Job], watch: Watch) -> list[Window]:
    """Of all hand-overs that came to their end."""
    engines = {job.number: job for job in jobs if job.service not in ("client", "monitoring")}
    return [
        Window(n, new.begin, old.end, watch.published[new.id] - new.begin)
        for n, old in engines.items()
        if old.end and (new := engines.get(n + 1)) and new.id in watch.published
    ]


def run(
    project: Project, seconds: float, rate: float, name: str
) -> tuple[list[Stream], list[Window]]:
    """All streams, and the hand-overs that went on meanwhile. What is left of it is an error."""
    project.leaks.begin()
    with engine(project, name) as recipe:
        chain = begin(project, **recipe)
        with chain.loop(rate=rate) as loop, Watch(chain) as watch:
            threading.Event().wait(seconds)
            found = windows(chain, chain.accounted(), watch)
        stopped = project.orch("--stop", chain.id)
        if stopped.returncode != 0:
            sys.exit(f"--stop ended with {stopped.returncode}: {stopped.stderr}")
        project.assert_nothing_left()
    return loop.streams, found


def judged(streams: list[Stream], found: list[Window], figures: Figures) -> None:
    """The figures of a run, with their bounds."""
    ok = [stream for stream in streams if stream.ok]
    inside = [s.ttft for s in ok if any(w.begin <= s.due <= w.end for w in found)]
    outside = [s.ttft for s in ok if not any(w.begin <= s.due <= w.end for w in found)]
    drain_s = max(stream.end - stream.sent for stream in ok)
    figures.add("streams", len(streams))
    figures.add("failed", sum(bool(s.why) and not s.cut for s in streams), at_most=0)
    figures.add("cut", sum(s.cut for s in streams), at_most=0)
    figures.add("hand-overs", len(found), at_least=1)
    figures.add("longest stream, s", drain_s)
    for share in (0.5, 0.99):
        what = f"TTFT p{share * 100:.0f}"
        figures.add(f"{what} outside, ms", 1000 * percentile(outside, share))
        figures.add(f"{what} in hand-overs, ms", 1000 * percentile(inside, share))
    ratio = percentile(inside, 0.99) / percentile(outside, 0.99)
    figures.add("TTFT p99 in hand-overs, of outside", ratio, at_most=MOST_OF_OUTSIDE)
    for window in found:
        figures.add("overlap, s", window.overlap_s)
        figures.add("time to ready, s", window.ready_s)
    beyond = max((w.overlap_s - w.ready_s - drain_s for w in found), default=float("nan"))
    figures.add("longest overlap beyond ready, drain, s", beyond, at_most=MOST_BEYOND_S)


def show(streams: list[Stream], found: list[Window]) -> None:
    """A line for each hand-over, and what went wrong."""
    print("hand-over   overlap s   ready s   streams   lost   TTFT p99 ms")
    for window in found:
        due = [s for s in streams if window.begin <= s.due <= window.end]
        lost = sum(not s.ok for s in due)
        p99 = 1000 * percentile([s.ttft for s in due if s.ok], 0.99)
        shown = (window.overlap_s, window.ready_s, len(due), lost, p99)
        print("{:>6} to {:<2} {:>9.0f} {:>9.1f} {:>9} {:>6} {:>14.1f}".format(
            window.number, window.number + 1, *shown))  # fmt: skip
    for stream in [s for s in streams if not s.ok][:20]:
        print(stream)


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--seconds", type=float, default=600.0)
    p.add_argument("--rate", type=float, default=8.0, help="streams a second")
    p.add_argument("--engine", choices=["paced", "ollama"], default="paced")
    given = p.parse_args()
    with installed() as project:
        streams, found = run(project, given.seconds, given.rate, given.engine)
    show(streams, found)
    figures = Figures()
    judged(streams, found, figures)
    title = f"{given.seconds:g} s, {given.rate:g} streams a second, engine {given.engine}"
    return 0 if figures.report(title) else 1


if __name__ == "__main__":
    sys.exit(main())
