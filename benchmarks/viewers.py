#!/usr/bin/env python3
"""What viewers of the live state cost: CPU of the client's job, as a share of one core.

    .venv/bin/python benchmarks/viewers.py [--runs 3] [--seconds 60] [--viewers 0 1 5 20]

One deployment on the local site with a small model that nobody asks anything. Counted are all
processes of the client's job (service, door, what translates, the script), with so many viewers of
GET /events; what is above that without viewers is theirs. Prints medians, and the lowest and
highest run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deployments import Deployed, deployed, orch
from measuring import Figures

TICKS = os.sysconf("SC_CLK_TCK")
#: Until the first looks are over.
SETTLE_S = 3.0


def processes(root: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield root
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{root}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from processes(int(child))


def cpu_s(root: int) -> float:
    """CPU seconds of them so far, with those of children that have ended."""
    ticks = 0
    for pid in processes(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


@contextlib.contextmanager
def viewers(at: Deployed, url: str, count: int) -> Iterator[None]:
    """So many of them."""
    header = at.output / "deployments" / at.id / "user.header"
    command = ["curl", "-sN", "--noproxy", "*", "-H", f"@{header}", f"{url}/events"]
    all_of_them = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
        if any(one.poll() is not None for one in all_of_them):
            sys.exit("A viewer was let go.")
    finally:
        for one in all_of_them:
            one.kill()
            one.wait()


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=float, default=60.0, help="of a run")
    p.add_argument("--viewers", type=int, nargs="+", default=[0, 1, 5, 20])
    given = p.parse_args()
    figures = Figures()
    with deployed("ollama", {}) as at:
        (record,) = json.loads(orch(at.output, "--status", "--json"))
        job = at.output / "local_jobs" / f"{record['jobs']['client']['id']}.json"
        root = json.loads(job.read_text())["pid"]
        for _ in range(given.runs):
            for count in given.viewers:
                with viewers(at, record["endpoints"]["client"], count):
                    time.sleep(SETTLE_S)
                    before, began = cpu_s(root), time.monotonic()
                    time.sleep(given.seconds)
                    used = (cpu_s(root) - before) / (time.monotonic() - began)
                figures.add(f"{count} viewer(s), % of a core", 100 * used)
    figures.report("Viewers: median (lowest to highest run)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
