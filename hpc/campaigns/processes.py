"""Processes of ours that outlive us: known again by their number and when they were started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

from campaign.units import Process

#: orch.py that is told to end cancels its jobs, which takes up to a minute.
END_PATIENCE_S = 90.0


def process_of(pid: int) -> Process:
    """A process of this machine that runs now, or that we have just started."""
    return Process(host=socket.gethostname(), pid=pid, started=_started(pid) or "")


def runs(process: Process) -> bool:
    """Whether it still runs. Of another machine that is not known: no."""
    here = process.host == socket.gethostname()
    return here and bool(process.started) and _started(process.pid) == process.started


def end(process: Process) -> None:
    """Tell it to end, if it runs, and wait for that."""
    if not runs(process):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_PATIENCE_S
    while runs(process) and time.monotonic() < deadline:
        time.sleep(0.1)


def _started(pid: int) -> str | None:
    """When it was started, in ticks since the machine was; None: it has ended."""
    try:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after[0] in "ZX" else after[19]
