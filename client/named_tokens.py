"""Tells HAProxy, which is at the door, which tokens there are beside the deployment's own, and what
their bearers may."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from client.door import LOOK_S, command
from client.page.passes import sessions_of
from contracts.job_files import fresh
from contracts.named_tokens import OWN_PARTS, OWNER, RESERVED, read_tokens

#: Maps of lib/door.cfg, in the order in which they learn of a new token: it has its limits before
#: it opens anything.
_MAPS = ("in_flight", "per_minute", "users", "sessions")


class NoToken(Exception):
    """Somebody has no token that is valid."""


class NamedTokens:
    """Follows a folder of tokens, which somebody may change on another host, and their expiry."""

    def __init__(self, folder: Path, door: Path) -> None:
        """`door` is the folder of HAProxy's sockets and maps."""
        self._folder, self._door = folder, door
        self._sessions = sessions_of(folder.parent)
        #: Digests of tokens of the deployment's own, with whose they are like.
        self._lent: dict[str, str] = {}
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

    def lend(self, digest: str, user: str) -> None:
        """Let a token open what this user's do, as long as he has one and it is not taken back.

        Raises NoToken: he has none; OSError: HAProxy could not be told."""
        with self._looking:
            self._lent[digest] = user
            told = self._look()
            if told and self._told is not None and digest in self._told["users"]:
                return
            del self._lent[digest]
        if told:
            raise NoToken(f"The token of {user} was revoked, or has expired.")
        raise OSError("HAProxy cannot be told of a token just now")

    def take_back(self, digest: str) -> None:
        """Let it open nothing any more."""
        with self._looking, contextlib.suppress(OSError):  # without HAProxy it opens nothing
            self._lent.pop(digest, None)
            command(self._door / "commands", f"del map {self._door / 'users'} {digest}")

    def limit(self, user: str) -> int | None:
        """Return how many requests this user may have in flight; None: there is no limit."""
        told = self._told
        return int(told["in_flight"][user]) if told and user in told["in_flight"] else None

    def _look(self) -> bool:
        """Whether HAProxy knows all."""
        try:
            wanted = self._wanted()
            if wanted != self._told:
                for name in _MAPS:
                    self._tell(name, wanted[name])
                self._told = wanted
        except OSError:
            return False  # the file system or HAProxy does not answer just now
        return True

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
        named = set(maps["users"].values())
        for digest, user in self._lent.items():
            if user in named or user in RESERVED:
                maps["users"][digest] = user
        for digest, session in self._sessions.all().items():
            if session.valid(now, tokens):
                maps["sessions"][digest] = session.user
        return maps

    def _tell(self, name: str, wanted: Mapping[str, str]) -> None:
        """Make a map what it is to be, but for the deployment's own tokens. Raises OSError."""
        own = (OWNER, OWN_PARTS) if name == "users" else ()
        path, commands = self._door / name, self._door / "commands"
        lines = (line.split() for line in command(commands, f"show map {path}").splitlines())
        there = {line[1]: line[2] for line in lines if len(line) == 3}  # reference, key, value
        for key, value in there.items():
            if value not in own and wanted.get(key) != value:
                command(commands, f"del map {path} {key}")
        for key, value in wanted.items():
            if there.get(key) != value:
                command(commands, f"add map {path} {key} {value}")
