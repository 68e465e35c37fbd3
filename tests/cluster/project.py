"""The project as an ordinary user of the test cluster has it, and orch.py run by that user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from events import PATIENCE_S, assert_measured
from leaks import Leaks
from servers import OLLAMA, Server
from slurmcluster import ENDS_S, WORK, Cluster, HostProcess, wait_until

HERE = Path(__file__).resolve().parents[2]
USER = "hpcuser"
HOME = WORK / USER
#: Keys of the recipe's infrastructure; all others are the service's.
INFRASTRUCTURE = {
    "partition", "client_partition", "account", "qos", "nodes", "gpus", "cpus", "mem_gb", "time",
    "replicas_per_node", "until", "max_jobs", "gpu_hours",
}  # fmt: skip
#: Everything is to work with a proxy in the environment that leads nowhere.
PROXY = {"http_proxy": "http://127.0.0.1:1"}

GATED = '#!/bin/sh\nuntil [ -e {gate} ]; do sleep 0.1; done\nexec "$0.real" "$@"\n'


class Project:
    """A copy of the working tree that belongs to the user, with its own environment."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.folder = HOME / "project"
        self.output = self.folder / "output"
        self.leaks = Leaks(cluster, self.output, USER)

    def install(self) -> None:
        """Copy what git knows, the built tools, and make the environment as the README says."""
        # job ids begin anew with each cluster: files of an earlier one would be taken for ours
        shutil.rmtree(self.output, ignore_errors=True)
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=HERE, check=True, capture_output=True).stdout
        for name in filter(None, names.decode().split("\0")):
            source, target = HERE / name, self.folder / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        shutil.copytree(HERE / ".tools", self.folder / ".tools", dirs_exist_ok=True)
        self._bring_ollama()
        subprocess.run(["chown", "-R", f"{USER}:{USER}", self.folder], check=True)
        self._make_venv()

    def _bring_ollama(self) -> None:
        """Where the machine has an Ollama of its own, the hosts may not: its PATH is not theirs."""
        target = self.folder / ".tools" / "bin" / "ollama"
        found = shutil.which("ollama")
        if not target.exists() and found:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, target)

    def _make_venv(self) -> None:
        # The hosts have no way out to a package index; the machine, which shares their disk, has.
        command = ["runuser", "-u", USER, "--", "env", f"HOME={HOME}", "PATH=/usr/bin:/bin"]
        result = subprocess.run(
            [*command, *pip_settings(), self.folder / "scripts" / "make_venv.sh"],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def recipe(self, name: str = "recipe.json", /, **changes: Any) -> str:
        """Write the example recipe with the names of this cluster, without monitoring where nothing
        else is said; `changes` go on top."""
        data = json.loads((HERE / "recipe_ex" / "inference_recipe.json").read_text())
        job = data["job"]
        # No GPU is real here: gpu1 has them by GRES, and the model sits on its CPU. One core is
        # what the machine has for each Ollama: the hosts of two clusters share its few.
        ours = {
            "account": "research", "mem_gb": 8, "time": "10:00", "allow_cpu": True, "cpus": 1,
            "model": str(self.folder / ".tools" / "models" / "tiny.gguf"), "precision": None,
            "num_predict": 8, "n_clients": 2, "n_requests_per_client": 2,
        }  # fmt: skip
        job["monitoring"] = changes.pop("monitoring", {"enabled": False})
        job["tls"] = changes.pop("tls", False)
        for key, value in {**ours, **changes}.items():
            (job["infrastructure"] if key in INFRASTRUCTURE else job["service"])[key] = value
        path = self.folder / name
        path.write_text(json.dumps(data))
        return str(path)

    def orch(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = ENDS_S
    ) -> subprocess.CompletedProcess[str]:
        """`python3 orch.py ARGUMENTS` on the login node, to its end."""
        command = ["python3", "orch.py", *arguments]
        environment = {**PROXY, **(env or {})}
        return self.cluster.on(
            "login1", *command, env=environment, cwd=self.folder, timeout=timeout
        )

    def orch_monitored(self, recipe: str, *how: str) -> subprocess.CompletedProcess[str]:
        """The same with a recipe, whose use begins once its monitoring is there as a whole. Where
        that is not required, orch waits for it for 15 s, and the Pushgateway, which is niced, may
        take longer on a busy machine."""
        begun = self.orch(recipe, *how, "--detach")
        assert begun.returncode == 0, begun.stdout + begun.stderr
        job_id = self.job_id("monitoring")
        for part in ("prometheus", "pushgateway"):
            address = self.output / f"{part}_ip_{job_id}.txt"
            wait_until(address.exists, 4 * PATIENCE_S, part)
        result = self.orch("--attach")
        said = begun.stdout + result.stdout, begun.stderr + result.stderr
        return subprocess.CompletedProcess(result.args, result.returncode, *said)

    def start(self, *arguments: str) -> HostProcess:
        """`orch` in the background."""
        command = ["python3", "-u", "orch.py", *arguments]
        return self.cluster.popen("login1", *command, env=PROXY, cwd=self.folder)

    def records(self) -> list[dict[str, Any]]:
        """All deployments, as --status --json gives them."""
        result = self.orch("--status", "--json")
        assert result.returncode == 0, result.stderr
        records: list[dict[str, Any]] = json.loads(result.stdout)
        return records

    def host_of(self, job_id: str) -> str:
        """Where a job's script runs."""
        return (self.output / "logs" / f"{job_id}.started").read_text().strip()

    def curl(self, url: str, *arguments: str) -> Any:
        """What a service answers to curl from the login node, sent by its owner."""
        command = ["curl", "-sS", "--noproxy", "*", *self.header(url), *arguments, url]
        return json.loads(self.cluster.on("login1", *command, check=True).stdout)

    def _record_files(self) -> list[Path]:
        """Those of deployments; beside them are others, that say how one stands."""
        paths = (self.output / "deployments").glob("*.json")
        return [path for path in paths if "." not in path.stem]

    def header(self, url: str) -> list[str]:
        """Options of curl by which the client service at a URL lets its owner in, and is known if
        it speaks TLS; none for what is no client service of this output directory's."""
        for path in self._record_files():
            record = json.loads(path.read_text())
            header = path.with_suffix("") / "user.header"
            if url.startswith(record["endpoints"]["client"] or "none ") and header.exists():
                authority = header.with_name("authority.pem")
                known = ["--cacert", str(authority)] if authority.exists() else []
                return ["-H", f"@{header}", *known]
        return []

    def record(self) -> dict[str, Any]:
        """The newest deployment as its record says, whatever orch makes of it."""
        paths = self._record_files()
        records: list[dict[str, Any]] = [json.loads(path.read_text()) for path in paths]
        return max(records, key=lambda record: record["created"])

    def job_id(self, service: str) -> str:
        """Id of a job of the newest deployment."""
        return str(self.record()["jobs"][service]["id"])

    def fill_gpus(self) -> str:
        """A job that has all GPUs: what comes after it waits in the queue."""
        command = ["sbatch", "--parsable", "-A", "research", "-p", "gpu", "--gres=gpu:4",
                   "-o", "/dev/null", "--wrap", "sleep 600"]  # fmt: skip
        job_id = self.cluster.on("login1", *command, check=True).stdout.strip()
        state = ["squeue", "-h", "-j", job_id, "-o", "%T"]
        wait_until(
            lambda: self.cluster.on("login1", *state).stdout.strip() == "RUNNING",
            2 * PATIENCE_S,  # the node may have been lost in the test before
            "the job that takes all GPUs",
        )
        return job_id

    def ollama_is(self, script: str) -> AbstractContextManager[None]:
        """See `stands_in`."""
        return self.stands_in(OLLAMA, script)

    @contextmanager
    def stands_in(self, server: Server, script: str) -> Iterator[None]:
        """A script in place of an engine's program, which it finds as "$0.real"."""
        path = self.folder / ".tools" / "bin" / server.program
        real = path.with_suffix(".real")
        path.rename(real)
        path.write_text(script)
        path.chmod(0o755)
        try:
            yield
        finally:
            real.replace(path)

    @contextmanager
    def gated_ollama(self) -> Iterator[Path]:
        """An Ollama that serves only once the file is there whose path this gives."""
        gate = self.folder / "gate"
        try:
            with self.ollama_is(GATED.format(gate=gate)):
                yield gate
        finally:
            gate.unlink(missing_ok=True)

    def assert_benchmarked(self, result: subprocess.CompletedProcess[str]) -> None:
        """orch has come to its end with a benchmark, if with one; see assert_measured."""
        assert_measured(result, self.output)

    def files_with(self, secret: str) -> list[Path]:
        """The files of the output directory in which it is; some of the services' come and go."""
        return [path for path in self.output.rglob("*") if secret.encode() in _content(path)]

    def assert_nothing_left(self) -> None:
        """No job, process, port, address or target file, temporary file of ours, on any host."""
        self.leaks.assert_none()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    except FileNotFoundError:  # it has just gone
        return b""


def pip_settings() -> list[str]:
    """pip's settings of this machine (mirrors, certificates), which the user needs as well."""
    prefixes = ("PIP_", "SSL_CERT", "REQUESTS_CA", "HTTPS_PROXY", "https_proxy")
    return [f"{key}={value}" for key, value in os.environ.items() if key.startswith(prefixes)]
