"""What a deployment may leave behind, and must not: jobs, processes, ports, files."""

from __future__ import annotations

import itertools
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import events
from slurmcluster import Cluster, ClusterError, wait_until

#: Where services and their tools put temporary files; each host has its own.
HOST_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
#: Hosts on which the user has processes; `head` has Slurm's own alone.
HOSTS = ("login1", "cpu1", "cpu2", "gpu1")
#: A cancelled job is COMPLETING until its clean-up is done; a node that was lost and is there again
#: ends what it ran after a minute, with nothing else to do.
PATIENCE_S = 2 * events.PATIENCE_S


@dataclass
class Leaks:
    """Looks for traces of `user`'s deployments in `output`; what was there before is none."""

    cluster: Cluster
    output: Path
    user: str
    _before: set[Path] = field(default_factory=set)

    def begin(self) -> None:
        """Remember what is there: leaks are what comes on top."""
        self._before = set(self._temporary_files())

    def assert_none(self) -> None:
        """Fail, naming all of them, where traces stay for longer than ends take."""
        try:
            wait_until(lambda: next(self.found(), None) is None, PATIENCE_S, "the last traces")
        except ClusterError as error:
            raise AssertionError(f"left behind: {'; '.join(self.found())}") from error

    def found(self) -> Iterator[str]:
        """Each trace as a phrase; those that are cheap to look for come first."""
        yield from (f"file {path}" for path in self._files())
        yield from (f"job {job_id}" for job_id in self.cluster.queue())
        for host in HOSTS:
            yield from (f"process {pid} on {host}" for pid in self.cluster.pids(host))
            yield from (f"port {port} on {host}" for port in sorted(self.cluster.listening(host)))

    def _files(self) -> Iterator[Path]:
        yield from self.output.glob("[!.]*_ip_*")
        yield from self.output.glob("prometheus_assets/[!.]*")
        yield from set(self._temporary_files()) - self._before

    def _temporary_files(self) -> Iterator[Path]:
        """Half-written files in the output directory, the user's own files elsewhere."""
        yield from (p for p in self.output.glob(".*") if p.is_file())
        for folder in ("deployments", "logs", "scripts", "prometheus_assets"):
            yield from self.output.glob(f"{folder}/.*")
        yield from (p for p in self.output.glob("containers/.*") if p.suffix != ".lock")
        uid = pwd.getpwnam(self.user).pw_uid
        for host, folder in itertools.product(HOSTS, HOST_FOLDERS):
            seen = os.scandir(self.cluster.seen_by(host, folder))
            yield from (Path(f"{host}:{folder}/{e.name}") for e in seen if _owner(e) == uid)


def _owner(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except FileNotFoundError:  # it has just gone
        return None
