#!/usr/bin/env python3
"""The page in a browser: how soon it shows that a deployment has died, and what viewers cost.

    python3 benchmarks/page.py [--deaths 10] [--viewers 5] [--seconds 60]

A death: the door is killed (SIGKILL), and the page, which sees its events end, asks once more and
says so. Its time is from the signal to the words on the page. What viewers cost: processor time of
the client's job with so many browsers' worth of open events, less that without them, as a share of
one core; the deployment is idle.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from browser import browser, opened, says  # noqa: E402
from deployments import Deployed, deployed, orch  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402

#: Notes in the page when it says that nobody answers.
_NOTE = """new Promise((resolve) => new MutationObserver(() => resolve(Date.now() / 1000))
    .observe(document.getElementById("lost"), {childList: true}))"""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("--deaths", type=int, default=10)
    p.add_argument("--viewers", type=int, default=5)
    p.add_argument("--seconds", type=float, default=60.0)
    given = p.parse_args()
    with deployed("ollama", {"num_thread": 1}) as one:
        without = cost(one, 0, given.seconds)
        watched = cost(one, given.viewers, given.seconds)
    print(f"client's job, share of a core: {without:.2%} idle, {watched:.2%} with {given.viewers} "
          f"viewers; they cost {watched - without:.2%}")  # fmt: skip
    with browser() as chromium:
        took = [death(chromium) for _ in range(given.deaths)]
    print(f"a death is shown after {statistics.median(took):.3f} s (median of {len(took)}), at "
          f"most {max(took):.3f} s")  # fmt: skip


def death(chromium: Browser) -> float:
    """Seconds from the door's death to the words of it."""
    with deployed("ollama", {"num_thread": 1}) as one, opened(chromium) as page:
        page.goto(json.loads(orch(one.output, "--link", one.id, "--json"))["url"])
        says(page, "#state", "^healthy$")
        page.evaluate(f"window.noted = {_NOTE}; 0")
        [door] = [pid for pid in processes(one) if b"door.cfg" in commandline(pid)]
        killed_at = time.time()
        os.kill(door, signal.SIGKILL)
        return float(page.evaluate("window.noted")) - killed_at


def cost(one: Deployed, viewers: int, seconds: float) -> float:
    """The share of a core that the client's job takes while so many watch."""
    with contextlib.ExitStack() as stack:
        for _ in range(viewers):
            stack.enter_context(watching(one))
        before = spent(one)
        time.sleep(seconds)
        return (spent(one) - before) / seconds


@contextlib.contextmanager
def watching(one: Deployed) -> Iterator[None]:
    """An open stream of events, which is read."""
    folder = one.output / "deployments" / one.id
    [address] = (one.output / "client_ip_local2.txt").read_text().split()
    reader = subprocess.Popen(
        ["curl", "-sN", "--noproxy", "*", "-H", f"@{folder / 'user.header'}",
         f"http://{address}/events"], stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        yield
    finally:
        reader.terminate()
        reader.wait()


def processes(one: Deployed) -> list[int]:
    """The service's, and HAProxy's at the door."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"DEPLOYMENT={one.id}\0".encode() in (folder / "environ").read_bytes() + b"\0":
                found.append(int(folder.name))
    return found


def commandline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def spent(one: Deployed) -> float:
    """Seconds of processor time."""
    total = 0.0
    for pid in processes(one):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            total += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return total


if __name__ == "__main__":
    main()
