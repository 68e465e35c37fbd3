"""Where the deployment's engine is, by the address file of its job."""

from __future__ import annotations

from pathlib import Path

from client.errors import NotReady
from contracts.job_files import BadAddress, address_file, fresh, parse_address, read_exit_status


class AddressFile:
    """`<service>_ip_<job>.txt` of the one job that is ours: an address per line and replica."""

    def __init__(
        self, output: Path, job: str, service: str = "ollama", engine: str = "Ollama"
    ) -> None:
        """`service` is the engine's name in names of files, `engine` in sentences."""
        self._output, self._service, self._engine = output, service, engine
        self._path = address_file(output, service, job)
        self._job = job
        self._known: tuple[object, list[str]] = (None, [])

    def read(self, fresh: bool = False) -> list[str]:
        """Return `host:port` of each replica; the file is read again when it changed, or when
        `fresh`.

        Raises NotReady if it is not there or holds something else.
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

    def exit_sentence(self) -> str:
        """Return a sentence that the job has ended, with exit code and reason; empty if not."""
        status = read_exit_status(self._output, self._job)
        if status is None:
            return ""
        reason = status.reason.partition("\n")[0][:300]
        words = f"exit code {status.exit_code}{f': {reason}' if reason else ''}"
        return f"The {self._engine} job {self._job} has ended ({words})."

    def _missing(self) -> str:
        fresh(self._path)
        return self.exit_sentence() or (
            f"Waiting for the {self._engine} job {self._job}: it has not written its address to "
            f"{self._path} yet."
        )

    def _parse(self, content: bytes) -> list[str]:
        lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
        try:
            addresses = list(
                dict.fromkeys(parse_address(line, self._service) for line in lines if line)
            )
        except BadAddress as error:
            raise NotReady(f"{self._path} {error}.") from error
        if not addresses:
            raise NotReady(f"{self._path} is empty; it must hold host:port.")
        return addresses
