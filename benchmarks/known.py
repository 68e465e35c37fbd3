"""Starts known_server.c for a benchmark, on a core of its own, and asks it what was true."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODEL = "known"
SERVER_CORE, CLIENT_CORE = 0, 1
#: A server that is later than this says nothing about a client: such a run is done again.
MAX_LATE_P99_S = 0.001


@functools.cache
def compiled() -> Path:
    """The program, compiled into a folder that goes with this process."""
    folder = tempfile.TemporaryDirectory(prefix="known-server-")
    _folders.append(folder)
    program = Path(folder.name) / "known_server"
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "known_server.c")], check=True)
    return program


_folders: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class KnownServer:
    """One that runs; `host:port` is its address."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET") -> bytes:
        """The body of an answer of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def seen(self) -> dict[str, Any]:
        """Counts, its own lateness and CPU time, the true TTFT."""
        return json.loads(self.ask("/seen"))

    def requests(self) -> list[dict[str, Any]]:
        """What was true of each answer."""
        return [json.loads(line) for line in self.ask("/requests").splitlines()]

    def forget(self) -> None:
        """Begin anew."""
        self.ask("/seen", "DELETE")


@contextlib.contextmanager
def known_server(core: int | None = SERVER_CORE, **pace: float | bool) -> Iterator[KnownServer]:
    """It, with `pace` as its command line has it: ttft, itl, tokens, slots, apart."""
    given = [f"--{name}" if value is True else f"--{name}={value}" for name, value in pace.items()]
    process = subprocess.Popen(
        [str(compiled()), *given],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdout is not None
    try:
        yield KnownServer(int(process.stdout.readline().rpartition(":")[2]), process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass(frozen=True)
class Used:
    """What a command took: its exit code, CPU seconds and greatest memory of it and its children,
    wall time in seconds, what it said."""

    code: int
    cpu_s: float
    rss_mb: float
    wall_s: float
    said: str


def run_pinned(command: list[str], cores: set[int] = frozenset({CLIENT_CORE}), **more: Any) -> Used:
    """Run a command on `cores` and measure what it takes (os.wait4)."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command,
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            **more,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        said.seek(0)
        return Used(
            process.returncode,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            wall,
            said.read(),
        )
