"""Where the deployment's Ollama is, by the address file of its job."""

from __future__ import annotations

import os
import re
from pathlib import Path

from client.errors import NotReady

OLLAMA_PORT = 11434
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")


class AddressFile:
    """`ollama_ip_<job>.txt` of the one job that is ours: an address per line and replica."""

    def __init__(self, output: Path, job: str) -> None:
        self._path = output / f"ollama_ip_{job}.txt"
        self._end = output / "logs" / f"{job}.rc"
        self._job = job
        self._known: tuple[object, list[str]] = (None, [])

    def read(self, fresh: bool = False) -> list[str]:
        """`host:port` of each replica; the file is read again when it changed, or when `fresh`.

        Raises NotReady where it is not there or holds something else.
        """
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_ino, found.st_size)
            if fresh or self._known[0] != version:
                self._known = (version, self._parse(self._path.read_bytes()))
        except FileNotFoundError as error:
            raise NotReady(self._missing()) from error
        except OSError as error:
            raise NotReady(f"{self._path} cannot be read: {error.strerror}.") from error
        return self._known[1]

    @property
    def known(self) -> list[str]:
        """What the file held last."""
        return self._known[1]

    def ended(self) -> str:
        """A sentence that the job has ended, with exit code and reason; empty while it has not."""
        _ask_server(self._end)
        try:
            code, _, rest = self._end.read_text("utf-8", "replace").partition("\n")
        except OSError:
            return ""
        reason = rest.strip().partition("\n")[0][:300]
        words = f"exit code {code.strip()[:10]}{f': {reason}' if reason else ''}"
        return f"The Ollama job {self._job} has ended ({words})."

    def _missing(self) -> str:
        _ask_server(self._path)
        return self.ended() or (
            f"Waiting for the Ollama job {self._job}: it has not written its address to "
            f"{self._path} yet."
        )

    def _parse(self, content: bytes) -> list[str]:
        lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
        addresses = list(dict.fromkeys(parse_address(line, self._path) for line in lines if line))
        if not addresses:
            raise NotReady(f"{self._path} is empty; it must hold host:port.")
        return addresses


def parse_address(line: str, path: Path) -> str:
    """`host:port` of a line of the address file `path`; Ollama's port where it has none.

    Raises NotReady.
    """
    host, _, port = line.partition(":")
    number = port or str(OLLAMA_PORT)
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", number):
        raise NotReady(f"{path} holds {line[:80]!r}, which is no host:port.")
    if not 0 < int(number) < 65536:
        raise NotReady(f"{path} holds the port {number}, which does not exist.")
    return f"{host}:{int(number)}"


def _ask_server(path: Path) -> None:
    """Have a network file system look again: NFS remembers for a minute that a file was missing,
    and forgets it when the directory is opened."""
    try:
        os.close(os.open(path.parent, os.O_RDONLY))
    except OSError:
        pass
