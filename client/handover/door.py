"""The door of this job, told of the one that comes after it (lib/door.cfg)."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from client.door import ENGINES, WELL, command, statistics, tell
from engines.http.sockets import addresses_of
from engines.http.urls import parse

#: Seconds that the service may take to say what it does.
_SERVICE_S = 5.0


class Door:
    """HAProxy, by its commands; each method raises OSError if it does not answer."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of its sockets and maps."""
        self._commands, self._map = folder / "commands", folder / "handover"
        self._service = folder / "service"

    def forward(self, url: str) -> None:
        """Send what comes from now on to the door at a URL."""
        base = parse(url, "ollama")
        ip, port = addresses_of(base.host, base.port)[0]
        for words in ("state maint", f"addr {ip} port {port}", "state ready", WELL):
            tell(self._commands, f"set server next/next {words}")
        self._set("to", url)

    def forwards(self) -> bool:
        """Return whether what comes from now on is sent on."""
        return '="to"' in command(self._commands, f"get map {self._map} to")

    def keep(self) -> None:
        """Send nothing there any more."""
        for key in ("to", "moved"):
            self._set(key, None)

    def redirect(self, url: str) -> None:
        """Have whoever asks from now on ask there himself."""
        self._set("moved", url)

    def open_answers(self) -> int:
        """Return how many requests the engines of this job have, or are about to have; a benchmark
        of the client service, which may ask them past the door, is one."""
        rows = statistics(self._commands, ENGINES)
        found = sum(int(row["scur"] or 0) + int(row["qcur"] or 0) for row in rows)
        return found or self._metric(b"orch_client_benchmark_running")

    def engine_answers(self) -> bool:
        """Return whether an engine of this job is there; what has come to one that is not may wait
        for it on and on."""
        rows = statistics(self._commands, ENGINES)
        return any(row["status"].startswith(("UP", "DRAIN")) for row in rows)

    def retrievals(self) -> int:
        """Return how many requests find or store chunks by this job's client service."""
        return self._metric(b"orch_client_retrieval_running")

    def _metric(self, name: bytes) -> int:
        """What the client service says of itself; 0 if it does not say it."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_SERVICE_S)
            sock.connect(str(self._service))
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            found = re.search(rb"\n" + name + rb" (\d+)", sock.makefile("rb").read())
        return int(found[1]) if found else 0

    def longest_s(self) -> float:
        """Return how long the longest of the last answers of engines took."""
        rows = statistics(self._commands, "show stat engines 2 -1")
        return max((int(row.get("ttime_max") or 0) for row in rows), default=0) / 1000

    def _set(self, key: str, url: str | None) -> None:
        command(self._commands, f"del map {self._map} {key}")
        if url is not None:
            tell(self._commands, f"add map {self._map} {key} {url}")
