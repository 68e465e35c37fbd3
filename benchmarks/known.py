"""Starts known_server.c, on a core of its own, and asks it what was true."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODEL = "known"
SERVER_CORE = 0


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
def known_server(
    core: int | None = SERVER_CORE, **pace: float | bool | str
) -> Iterator[KnownServer]:
    """It, with `pace` as its command line has it: ttft, itl, tokens, slots, apart, dies_of."""
    given = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in pace.items()
    ]
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
