"""Tells HAProxy, which is at the door, where the engines are (they come, go and move) and which of
them are to get no requests, and asks it how things stand."""

from __future__ import annotations

import contextlib
import csv
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from client.errors import NotReady
from client.ollama.addresses import AddressFile
from engines.http.sockets import addresses_of

#: Seconds between looks at the address file: a replica has its share soon after it has come.
LOOK_S = 0.5
_TIMEOUT_S = 5.0
#: Said of a server that has moved. A check of where it was may be under way, and fail: else that
#: would take it out, and who asks then would be refused.
WELL = "health up"
#: Of all parts, or of the servers of the engines' backend alone (its Management Guide, 9.3).
_ALL, ENGINES = "show stat", "show stat engines 4 -1"


class Load(NamedTuple):
    """Requests that an engine works on, those that wait for it alone, and whether it answers."""

    in_flight: int
    queued: int
    up: bool


class EngineServers:
    """The servers `engine1`, `engine2`, … of HAProxy's backend `engines`, by its runtime API
    (HAProxy's Management Guide, 9.3); `commands` is its socket."""

    def __init__(self, addresses: AddressFile, commands: Path) -> None:
        self._addresses = addresses
        self._commands = commands
        self._told: list[str] = []
        self._by_socket: dict[str, str] = {}
        self._unfit: frozenset[str] = frozenset()
        self._looking = threading.Lock()

    def follow(self, beside: Callable[[], None]) -> None:
        """Look at the address file from now on, beside everything else, and each time call
        `beside`; until HAProxy's folder goes, which goes with it."""
        threading.Thread(target=self._look_on, args=(beside,), daemon=True).start()

    def _look_on(self, beside: Callable[[], None]) -> None:
        wait = threading.Event()
        while self._commands.parent.is_dir() and not wait.wait(LOOK_S):
            self.look()
            beside()

    def outstanding(self) -> Counter[str]:
        """Return how many requests that came through the door each engine has not ended yet, by
        its address."""
        return self.outstanding_and_down()[0]

    def outstanding_and_down(self) -> tuple[Counter[str], set[str]]:
        """Return that, and the addresses to which HAProxy sends nothing, as they did not answer."""
        states = self._states().items()
        outstanding = Counter({at: int(row["scur"] or 0) for at, row in states})
        return outstanding, {at for at, row in states if row["status"].startswith("DOWN")}

    def loads(self) -> dict[str, Load]:
        """Return how each engine is, by its address; nothing if HAProxy does not say."""
        return {
            at: Load(int(row["scur"] or 0), int(row["qcur"] or 0), row["status"].startswith("UP"))
            for at, row in self._states().items()
        }

    def up(self) -> set[str]:
        """Return the addresses that answer HAProxy; none, if it does not say."""
        states = self._states().items()
        return {address for address, row in states if row["status"].startswith(("UP", "DRAIN"))}

    def address_of(self, at: str) -> str:
        """Return the address, as the file has it, of who is at an `ip:port`."""
        return self._by_socket.get(at, at)

    def rest(self) -> None:
        """Let none of them have requests, and be asked how they are: they have ended, or are about
        to. Who is told of by another address file has them again."""
        with self._looking:
            told, self._told = self._told, []
            for number in range(1, len(told) + 1):
                tell(self._commands, f"set server engines/engine{number} state maint")

    def keep_from(self, unfit: Sequence[str]) -> None:
        """Let these have no requests, as long as there is another one."""
        with self._looking:
            self._unfit = frozenset(unfit)
            with contextlib.suppress(OSError):  # without HAProxy nobody has any
                self._set_states(self._told)

    def look(self, fresh: bool = False) -> bool:
        """Tell HAProxy what has changed, and return whether something has; what it does not take is
        told again. `fresh`: also if the file's times do not show it."""
        with self._looking:
            return self._look(fresh)

    def _look(self, fresh: bool) -> bool:
        try:
            addresses = self._addresses.read(fresh)
        except NotReady:
            return False  # they keep their servers: whether they answer, HAProxy sees itself
        if addresses == self._told:
            return False
        with contextlib.suppress(OSError, UnicodeError):  # not begun, or a name is not known yet
            self._tell(addresses)
            self._told = addresses
        return True

    def _tell(self, addresses: Sequence[str]) -> None:
        new = []
        for number, address in enumerate(addresses, start=1):
            if self._told[number - 1 : number] == [address]:
                continue
            host, _, port = address.rpartition(":")
            ip, port_number = addresses_of(host, int(port))[0]
            self._by_socket[f"{ip}:{port_number}"] = address
            server = f"engines/engine{number}"
            tell(self._commands, f"set server {server} state maint")  # it may be down where it was
            tell(self._commands, f"set server {server} addr {ip} port {port_number}")
            new.append(server)
        self._set_states(addresses)
        for server in new:
            tell(self._commands, f"set server {server} {WELL}")
        for number in range(len(addresses) + 1, len(self._told) + 1):
            tell(self._commands, f"set server engines/engine{number} state maint")

    def _set_states(self, addresses: Sequence[str]) -> None:
        """Raises OSError."""
        unfit = frozenset() if self._unfit.issuperset(addresses) else self._unfit
        for number, address in enumerate(addresses, start=1):
            state = "drain" if address in unfit else "ready"
            tell(self._commands, f"set server engines/engine{number} state {state}")

    def _states(self) -> dict[str, dict[str, str]]:
        """What HAProxy says of each engine, by its address; nothing if it does not answer."""
        try:
            rows = {row["svname"]: row for row in statistics(self._commands, ENGINES)}
        except OSError:
            return {}
        names = ((f"engine{n}", address) for n, address in enumerate(self._told, start=1))
        return {address: rows[name] for name, address in names if name in rows}


def command(commands: Path, line: str) -> str:
    """Return what HAProxy says to a command at its socket. Raises OSError: it does not answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.connect(str(commands))
        sock.sendall(f"{line}\n".encode())
        return sock.makefile().read().strip()


def tell(commands: Path, line: str) -> None:
    """Have HAProxy do what a command says. Raises OSError: it does not answer, or refuses."""
    said = command(commands, line)
    if said and "changed" not in said and "no need" not in said:
        raise OSError(said)


def statistics(commands: Path, which: str = _ALL) -> list[dict[str, str]]:
    """Return a row for each part and server of HAProxy, as its Management Guide (9.1) names the
    columns. Raises OSError: it does not answer."""
    return list(csv.DictReader(command(commands, which).removeprefix("# ").splitlines()))
