"""Tells HAProxy, which is at the door, which tokens there are beside the deployment's own, and what
their bearers may."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from client.door import LOOK_S, command
from contracts.job_files import fresh
from contracts.named_tokens import OWN_PARTS, OWNER, read_tokens

#: Maps of lib/door.cfg, in the order in which they learn of a new token: it has its limits before
#: it opens anything.
_MAPS = ("in_flight", "per_minute", "users")


class NamedTokens:
    """Follows a folder of tokens, which somebody may change on another host, and their expiry."""

    def __init__(self, folder: Path, door: Path) -> None:
        """`door` is the folder of HAProxy's sockets and maps."""
        self._folder, self._door = folder, door
        self._told: dict[str, dict[str, str]] | None = None
        self._looking = threading.Lock()

    def follow(self) -> None:
        """Look from now on, beside everything else."""
        threading.Thread(target=self._look_on, daemon=True).start()

    def _look_on(self) -> None:
        wait = threading.Event()
        while True:
            self.look()
            wait.wait(LOOK_S)

    def look(self) -> None:
        """Tell HAProxy what has changed; what it does not take is told again."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        try:
            wanted = self._wanted()
            if wanted != self._told:
                for name in _MAPS:
                    self._tell(name, wanted[name])
                self._told = wanted
        except OSError:
            return  # the file system or HAProxy does not answer just now

    def _wanted(self) -> dict[str, dict[str, str]]:
        tokens = read_tokens(fresh(self._folder / "."))
        now = time.time()
        maps: dict[str, dict[str, str]] = {name: {} for name in _MAPS}
        for user, token in tokens.items():
            if token.valid(now):
                maps["users"][token.sha256] = user
                if token.in_flight is not None:
                    maps["in_flight"][user] = str(token.in_flight)
                if token.per_minute is not None:
                    maps["per_minute"][user] = str(token.per_minute)
        return maps

    def _tell(self, name: str, wanted: Mapping[str, str]) -> None:
        """Make a map what it is to be, but for the deployment's own tokens. Raises OSError."""
        path, commands = self._door / name, self._door / "commands"
        lines = (line.split() for line in command(commands, f"show map {path}").splitlines())
        there = {line[1]: line[2] for line in lines if len(line) == 3}  # reference, key, value
        for key, value in there.items():
            if value not in (OWNER, OWN_PARTS) and wanted.get(key) != value:
                command(commands, f"del map {path} {key}")
        for key, value in wanted.items():
            if there.get(key) != value:
                command(commands, f"add map {path} {key} {value}")
