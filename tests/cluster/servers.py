"""The engines that the rows of the table of faults are tried with, and what stands in for one."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from slurmcluster import Cluster

#: Holds its address and answers nobody, in place of either.
SILENT = """#!/usr/bin/python3
import os, socket, sys, time
at = dict(zip(sys.argv, sys.argv[1:]))
host, _, port = os.environ.get("OLLAMA_HOST", "").rpartition(":")
server = socket.create_server((at.get("--host", host), int(at.get("--port", port))))
time.sleep(600)
"""


@dataclass(frozen=True)
class Server:
    """An engine: what recipes, its job, and sentences call it, and its program in .tools/bin."""

    engine: str
    service: str
    title: str
    program: str
    #: Words of the process that serves: in its first, and after that.
    first: bytes
    then: bytes

    def processes(self, cluster: Cluster) -> list[int]:
        """Ids of those that serve on the GPU host, as the machine sees them."""
        return [pid for pid in cluster.pids("gpu1") if self._is(command_line(pid).split(b"\0"))]

    def _is(self, words: list[bytes]) -> bool:
        return words[0].endswith(self.first) and self.then in words

    def kill(self, cluster: Cluster) -> None:
        """End the one that serves as a crash would."""
        (pid,) = self.processes(cluster)
        os.kill(pid, signal.SIGKILL)


def command_line(pid: int) -> bytes:
    """The words of a process, a zero after each; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


OLLAMA = Server("ollama", "ollama", "Ollama", "ollama", b"ollama", b"serve")
LLAMACPP = Server("llama.cpp", "llamacpp", "llama.cpp", "llama-server", b"python", b"--alias")
each_engine = pytest.mark.parametrize(
    "server", (OLLAMA, LLAMACPP), ids=lambda server: server.engine
)
