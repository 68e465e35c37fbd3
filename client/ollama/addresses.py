"""Where the deployment's engine is, by the address file of its job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from client.errors import NotReady
from contracts.job_files import BadAddress, address_file, fresh, parse_address, read_exit_status


class AddressFile:
    """`<service>_ip_<job>.txt` of the one job that is ours: an address per line and replica."""

    def __init__(
        self,
        output: Path,
        job: str | Callable[[], str],
        service: str = "ollama",
        engine: str = "Ollama",
    ) -> None:
        """`job` may be another one each time, or none (""); `service` is the engine's name in names
        of files, `engine` in sentences."""
        self._output, self._service, self._engine = output, service, engine
        self._job = job
        self._known: tuple[object, list[str]] = (None, [])

    def read(self, fresh: bool = False) -> list[str]:
        """Return `host:port` of each replica; the file is read again when it changed, or when
        `fresh`.

        Raises NotReady if it is not there or holds something else.
        """
        job = self._job_of()
        if not job:
            raise NotReady(
                f"There is no {self._engine} now: the next request of a model begins one."
            )
        path = address_file(self._output, self._service, job)
        try:
            found = path.stat()
            version = (path, found.st_mtime_ns, found.st_ino, found.st_size)
            if fresh or self._known[0] != version:
                self._known = (version, self._parse(path))
        except FileNotFoundError as error:
            raise NotReady(self._missing(path, job)) from error
        except OSError as error:
            raise NotReady(f"{path} cannot be read: {error.strerror}.") from error
        return self._known[1]

    def _job_of(self) -> str:
        return self._job if isinstance(self._job, str) else self._job()

    @property
    def known(self) -> list[str]:
        """What the file held last."""
        return self._known[1]

    def exit_sentence(self) -> str:
        """Return a sentence that the job has ended, with exit code and reason; empty if not."""
        job = self._job_of()
        status = read_exit_status(self._output, job) if job else None
        if status is None:
            return ""
        reason = status.reason.partition("\n")[0][:300]
        words = f"exit code {status.exit_code}{f': {reason}' if reason else ''}"
        return f"The {self._engine} job {job} has ended ({words})."

    def _missing(self, path: Path, job: str) -> str:
        fresh(path)
        return self.exit_sentence() or (
            f"Waiting for the {self._engine} job {job}: it has not written its address to "
            f"{path} yet."
        )

    def _parse(self, path: Path) -> list[str]:
        """Raises NotReady, OSError."""
        lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines()]
        try:
            addresses = list(
                dict.fromkeys(parse_address(line, self._service) for line in lines if line)
            )
        except BadAddress as error:
            raise NotReady(f"{path} {error}.") from error
        if not addresses:
            raise NotReady(f"{path} is empty; it must hold host:port.")
        return addresses
