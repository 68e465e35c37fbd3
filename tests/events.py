"""Tests on a busy machine: waiting for what happens a moment later, measuring when it lets one."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

#: Seconds after which what happens within one on an idle machine is taken never to happen.
PATIENCE_S = 120.0
#: Seconds between two looks.
LOOK_S = 0.005
#: How often a test of times is tried.
TRIES = 20

#: Codes with which a run says that the machine was too busy for it, as it must: a short run of a
#: model that answers within milliseconds, on cores that others use. No flaw of what is tested.
BUSY = frozenset({"load_generator", "concurrency", "model_loading"})

T = TypeVar("T")


def until(true: Callable[[], T], seconds: float = PATIENCE_S, what: str = "it") -> T:
    """Wait until `true()` is; what it gave. Raises AssertionError where that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(LOOK_S)
    return found


def undisturbed(test: Callable[..., None]) -> Callable[..., None]:
    """Try a test again that fails: for claims about times, of which a busy machine spoils one try,
    and a flaw each of them. Each try has a stand-in that has seen nothing yet and an empty
    `tmp_path`, but the same other fixtures. Not for claims that something never happens."""

    @functools.wraps(test)
    def tried(**fixtures: Any) -> None:
        for number in range(TRIES):
            try:
                test(**fixtures)
                return
            except AssertionError:
                if number == TRIES - 1:
                    raise
            _begin_anew(fixtures)

    return tried


def _begin_anew(fixtures: dict[str, Any]) -> None:
    servers = [fixtures["server"]] if "server" in fixtures else fixtures.get("servers", [])
    for server in servers:
        server.forget()
    for path in fixtures["tmp_path"].iterdir() if "tmp_path" in fixtures else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def assert_measured(result: subprocess.CompletedProcess[str], output: Path) -> None:
    """orch has come to its end, with a benchmark where one was asked for: with figures that may be
    used, or that may not since the machine was busy, and for no other reason."""
    # The end first, since of a long message the first line is what everybody sees.
    said = f"exit {result.returncode}: {result.stderr[-300:]!r}\n{result.stdout}{result.stderr}"
    assert result.returncode in (0, 6), said
    if result.returncode == 6:
        summaries = output.glob("benchmarks/*/summary.json")
        newest = max(summaries, key=lambda path: path.stat().st_mtime)
        codes = set(json.loads(newest.read_text())["validity"]["codes"])
        assert codes and codes <= BUSY, f"{codes}, {said}"


def kill_all(pids: Iterable[int]) -> None:
    """Kill them; one may have ended since, by itself or with another."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
