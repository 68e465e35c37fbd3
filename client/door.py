"""Tells HAProxy, which is at the door, where the engines are (they come, go and move), and asks it
how things stand."""

from __future__ import annotations

import csv
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from client.errors import NotReady
from client.ollama.addresses import AddressFile
from engines.http.sockets import addresses_of

#: Seconds between looks at the address file: a replica has its share soon after it has come.
LOOK_S = 0.5
_TIMEOUT_S = 5.0


class EngineServers:
    """The servers `engine1`, `engine2`, … of HAProxy's backend `engines`, by its runtime API
    (HAProxy's Management Guide, 9.3); `commands` is its socket."""

    def __init__(self, addresses: AddressFile, commands: Path) -> None:
        self._addresses = addresses
        self._commands = commands
        self._told: list[str] = []
        self._looking = threading.Lock()

    def follow(self) -> None:
        """Look at the address file from now on, beside everything else."""
        threading.Thread(target=self._look_on, daemon=True).start()

    def _look_on(self) -> None:
        wait = threading.Event()
        while not wait.wait(LOOK_S):
            self.look()

    def works(self, address: str) -> bool:
        """Return whether an engine is at something that came through the door."""
        try:
            name = f"engine{self._told.index(address) + 1}"
            rows = statistics(self._commands)
        except (OSError, ValueError):
            return False
        return any(row["svname"] == name and row["scur"] != "0" for row in rows)

    def look(self) -> None:
        """Tell HAProxy what has changed; what it does not take is told again."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        try:
            addresses = self._addresses.read()
        except NotReady:
            addresses = []  # they keep their servers: whether they answer, HAProxy sees itself
        if addresses and addresses != self._told:
            try:
                self._tell(addresses)
            except (OSError, UnicodeError):
                return  # HAProxy has not begun, or a name is not known yet
            self._told = addresses

    def _tell(self, addresses: Sequence[str]) -> None:
        for number, address in enumerate(addresses, start=1):
            host, _, port = address.rpartition(":")
            ip, port_number = addresses_of(host, int(port))[0]
            server = f"engines/engine{number}"
            self._command(f"set server {server} addr {ip} port {port_number}")
            self._command(f"set server {server} state ready")
        for number in range(len(addresses) + 1, len(self._told) + 1):
            self._command(f"set server engines/engine{number} state maint")

    def _command(self, line: str) -> None:
        said = command(self._commands, line)
        if said and "changed" not in said and "no need" not in said:
            raise OSError(said)


def command(commands: Path, line: str) -> str:
    """Return what HAProxy says to a command at its socket. Raises OSError: it does not answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.connect(str(commands))
        sock.sendall(f"{line}\n".encode())
        return sock.makefile().read().strip()


def statistics(commands: Path) -> list[dict[str, str]]:
    """Return a row for each part and server of HAProxy, as its Management Guide (9.1) names the
    columns. Raises OSError: it does not answer."""
    return list(csv.DictReader(command(commands, "show stat").removeprefix("# ").splitlines()))
