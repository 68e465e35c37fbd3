"""The files by which jobs make themselves known in the output directory.

An address is believed only when its job id is ours; who reads one asks for it by that id.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import OrchError, UsageError
from contracts.files import PROJECT
from contracts.job_files import (
    BadAddress,
    ExitStatus,
    address_file,
    fresh,
    parse_address,
    read_exit_status,
)
from contracts.jobs.ids import number_of
from hpc.deployments.login import make_login

if TYPE_CHECKING:
    from hpc.deployments.facts import ImageFacts, ModelFacts, ReplicaFacts

#: Where models of Hugging Face's hub are kept, by their names there.
HUB_MODELS = "hub_models"
FOLDERS = (
    "benchmarks",
    "containers",
    "deployments",
    "grafana_data",
    HUB_MODELS,
    "logs",
    "ollama_models",
    "prometheus_assets",
    "prometheus_data",
    "qdrant_storage",
    "scripts",
)
#: If there is room for this, there was room for a line in a log: some blocks of any file system.
PROBE_BYTES = 65536
#: What the monitoring's job may publish.
MONITORING_SERVICES = ("prometheus", "grafana", "pushgateway")
# A replica's own files are of JOB.NUMBER, those of several on a node of JOB.nodeRANK.
_FILE_OF_A_JOB = re.compile(r"(?:[a-z]+_ip_(\w+)\.txt|[a-z]+_targets_(\w+)(?:\.\w+)?\.json)")
# What lib/threads.sh makes for a replica.
_VIEW_OF_A_JOB = re.compile(r"\.view\.(\w+)(?:\.\d+)?(?:\.d|\.new)?")


class BadAddressFile(OrchError):
    """An address file of ours holds something that is no address."""

    exit_code = 4


class OutputDir:
    """The output directory: where everything is, and what its files say of a job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the directory, its folders, and the login of its monitoring.

        Raises UsageError naming what cannot be made, FileError if there is no room for the login.
        """
        try:
            for name in FOLDERS:
                (self.path / name).mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied", str(self.path))
        except OSError as error:
            raise UsageError(
                f"cannot write into the output directory {self.path}: {error.strerror}; choose "
                "another one with --output-dir."
            ) from error
        make_login(self.path)

    def command(self, *options: str) -> str:
        """The line that runs orch.py with `options` on this directory, as it works from here."""
        try:
            here = Path.cwd()
        except FileNotFoundError:  # somebody has removed the folder that we are in
            here = Path("/")
        orch = Path("orch.py") if here == PROJECT else PROJECT / "orch.py"
        words = ["python3", str(orch), *options]
        if self.path != here / "output":
            words += ["--output-dir", str(self.path)]
        return shlex.join(words)

    def log(self, service: str, job_id: str, stream: str = "err") -> Path:
        """The log of a job; `stream` is "out" or "err", `job_id` may be Slurm's %j."""
        return self.path / "logs" / f"{service}_{number_of(job_id)}.{stream}"

    def started_at(self, job_id: str) -> int | None:
        """When the job's script last began to run (ns since the epoch); None if it has not.

        A job that was requeued and runs anew has another number.
        """
        return _mtime_ns(fresh(self.path / "logs" / f"{number_of(job_id)}.started"))

    def host(self, job_id: str) -> str | None:
        """Where the job's script began to run; None if it has not."""
        try:
            return (self.path / "logs" / f"{number_of(job_id)}.started").read_text().strip() or None
        except OSError:
            return None

    def exit_status(self, job_id: str) -> ExitStatus | None:
        """What the job's exit-code file says; None if there is none (yet)."""
        return read_exit_status(self.path, number_of(job_id))

    def addresses(self, service: str, job_id: str) -> list[str]:
        """`host:port` of each replica that the job has published; none if it has not yet.

        Raises BadAddressFile naming the file and the line if it is no address.
        """
        path = fresh(address_file(self.path, service, number_of(job_id)))
        try:
            lines = path.read_text(errors="replace").split("\n")
            return [parse_address(line, service) for line in lines if line.strip()]
        except OSError:
            return []
        except BadAddress as error:
            raise BadAddressFile(f"{path} {error}.") from error

    def monitoring_addresses(self, job_id: str) -> dict[str, str]:
        """`host:port` of each service that the monitoring's job has published so far."""
        found = {service: self.addresses(service, job_id) for service in MONITORING_SERVICES}
        return {service: addresses[0] for service, addresses in found.items() if addresses}

    def gpus(self, job_id: str) -> ModelFacts:
        """The names and driver versions of a job's GPUs, on all its nodes, each once; none if
        it has none, or neither nvidia-smi nor amd-smi to tell."""
        paths = sorted((self.path / "logs").glob(f"{number_of(job_id)}.*gpus"))
        lines = [line for path in paths for line in path.read_text(errors="replace").splitlines()]
        pairs = [line.partition(",") for line in lines if line.strip()]
        return {
            "gpu_names": list(dict.fromkeys(name.strip() for name, _, _ in pairs)),
            "driver_versions": list(dict.fromkeys(driver.strip() for _, _, driver in pairs)),
        }

    def replicas(self, job_id: str, urls: Sequence[str]) -> ModelFacts:
        """What each replica of a job has, by the numbers that their `urls` are in the order of;
        nothing if there are not several on a node."""
        found: list[ReplicaFacts] = []
        for number, url in enumerate(urls):
            path = self.path / "logs" / f"{number_of(job_id)}.{number}.share"
            try:
                node, cpus, gpus = path.read_text(errors="replace").split("\n")[:3]
            except (OSError, ValueError):
                return {}
            found.append({"url": url, "node": node, "cpus": cpus, "gpus": gpus})
        return {"replicas": found}

    def unsealed(self, job_id: str) -> list[str]:
        """Why engines of a job are not kept apart from others on their nodes, each reason once;
        none if all are, or none is asked to be."""
        paths = sorted((self.path / "logs").glob(f"{number_of(job_id)}.*seal"))
        said = (path.read_text(errors="replace").strip() for path in paths)
        return [why for why in dict.fromkeys(said) if why != "sealed"]

    def image(self, job_id: str) -> ImageFacts | None:
        """The image that a job's service runs in; None when it runs in none, or its script has not
        begun."""
        try:
            lines = (
                (self.path / "logs" / f"{number_of(job_id)}.image")
                .read_text(errors="replace")
                .split("\n")
            )
            path, sha256, size, changed = lines[:4]
            return {"path": path, "sha256": sha256 or None, "bytes": int(size), "changed": changed}
        except (OSError, ValueError):
            return None

    @property
    def models(self) -> Path:
        """Where Ollama has its models: `manifests` by their names, and `blobs`."""
        return self.path / "ollama_models"

    def files_of_jobs(self) -> dict[str, list[Path]]:
        """Address and target files, and views of models, by the numbers of their jobs."""
        found: dict[str, list[Path]] = {}
        for path in self.models.glob(".view.*"):
            if view := _VIEW_OF_A_JOB.fullmatch(path.name):
                found.setdefault(view.group(1), []).append(path)
        for folder in (self.path, self.path / "prometheus_assets"):
            for path in folder.glob("*_*_*"):
                match = _FILE_OF_A_JOB.fullmatch(path.name)
                if match:
                    found.setdefault(match.group(1) or match.group(2), []).append(path)
        return found

    def forget_older(self, job_id: str, mtime_ns: int) -> None:
        """Remove what an earlier job of that id left: all its files that are older than this."""
        marks = [
            self.path / "logs" / f"{number_of(job_id)}.{ending}" for ending in ("started", "rc")
        ]
        for path in [*marks, *self.files_of_jobs().get(number_of(job_id), [])]:
            try:
                if path.lstat().st_mtime_ns < mtime_ns:
                    _remove(path)
            except OSError:
                continue  # gone, or not ours to remove

    def forget(self, job_id: str) -> None:
        """Remove the address and target files of a job that is over, and its view of models."""
        for path in self.files_of_jobs().get(number_of(job_id), []):
            _remove(path)

    def forget_run(self, job_id: str, started_at: int | None) -> None:
        """Remove what a run of a job left that was requeued; `started_at` is when that run began.

        A run that has begun meanwhile wrote files of its own, which stay.
        """
        newer = self.started_at(job_id)
        if newer in (None, started_at):
            self.forget(job_id)
            for path in (self.path / "logs").glob(f"{number_of(job_id)}.*"):
                path.unlink(missing_ok=True)
            return
        for path in self.files_of_jobs().get(number_of(job_id), []):
            if (_mtime_ns(path) or newer) < newer:
                _remove(path)

    def log_tail(self, service: str, job_id: str, lines: int = 15) -> list[str]:
        """The last lines of what the job wrote to stderr, or of stdout if that is empty; and
        why nobody can write there, if that is so."""
        return [*self._last_lines(service, job_id, lines), *_not_writable(self.path / "logs")]

    def _last_lines(self, service: str, job_id: str, lines: int) -> list[str]:
        for stream in ("err", "out"):
            path = self.log(service, job_id, stream)
            tail = _tail(path, lines)
            if tail:
                return [f"last lines of {path}:", *(f"  {line}" for line in tail)]
        path = self.log(service, job_id)
        if path.exists():
            return [f"{path} is empty"]
        return [f"there is no {path}: is this folder on a file system that all nodes share?"]


def _not_writable(folder: Path) -> list[str]:
    """Why nothing can be written into a folder: a job that fails of that cannot say so itself."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())  # NFS tells of a quota no earlier
    except OSError as error:
        return [
            f"cannot write {folder}: {error.strerror}; make room in that file system, or check "
            "its permissions"
        ]
    return []


def _remove(path: Path) -> None:
    """Remove a file or a folder with what is in it; no error if it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _mtime_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 65536))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    # A log may hold anything; a terminal is not to obey it.
    clean = ["".join(c for c in line if c.isprintable()) for line in text.splitlines()]
    return [line[:300] for line in clean if line.strip()][-lines:]
