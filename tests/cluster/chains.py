"""A deployment that outlives its jobs, as tests and the benchmark see it: its phases, its jobs as
Slurm accounts for them, an engine with known times, and streams through its door."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from events import PATIENCE_S
from open_loop import OLLAMA, OPENAI, OpenLoop, Stream
from project import HERE, Project
from servers import Server
from slurmcluster import ENDS_S, wait_until

#: The limit of each job, and the longest that anything takes that comes with the next one.
LIMIT_S = 120
NEXT_S = LIMIT_S + ENDS_S
#: Seconds until the first token of the engine with known times, and of each other.
FIRST_S, PACE_S = 0.2, 0.05
#: What makes a deployment one.
CHAIN: Mapping[str, Any] = {"time": "2:00", "until": "stopped"}
PACED = Server("vllm", "vllm", "vLLM", "vllm", b"python3", b"serve")
_PACED = """#!/bin/sh
while [ -e {hold} ]; do sleep 0.1; done
export STANDIN_FIRST_S={first} STANDIN_PACE_S={pace}
exec /usr/bin/python3 {standin} "$@"
"""


@dataclass(frozen=True)
class Job:
    """One as Slurm accounts for it; seconds since 1970, `end` 0 while it goes on."""

    number: int
    service: str
    id: str
    begin: float
    end: float
    state: str


class Chain:
    """The newest deployment of a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.record = project.record()
        self.id = str(self.record["id"])
        self.first = {name: str(job["id"]) for name, job in self.record["jobs"].items()}
        self.folder = project.output / "deployments" / f"{self.id}.chain"

    @property
    def told(self) -> dict[str, Any]:
        """What handover.json says; empty before there is one."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "handover.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    @property
    def jobs(self) -> list[dict[str, str]]:
        """The ids by service, of the first jobs and of each that were submitted after them."""
        found = {1: self.first}
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "jobs").read_text().splitlines():
                number, service, job_id = line.split()
                if service in self.first:
                    found.setdefault(int(number), {})[service] = job_id.partition(";")[0]
        return [found[number] for number in sorted(found)]

    def find(self) -> str:
        """The address of the newest door that is published; empty if there is none."""
        for one in reversed(self.jobs):
            path = self.project.output / f"client_ip_{one.get('client')}.txt"
            with contextlib.suppress(FileNotFoundError):
                return f"http://{path.read_text().strip()}"
        return ""

    def wait(self, true: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """What handover.json says once that is true of it."""
        wait_until(lambda: bool(self.told and true(self.told)), NEXT_S, what)
        return self.told

    def until(self, phase: str, job: int = 1) -> dict[str, Any]:
        """Wait until a job is in this phase, or beyond."""
        order = ("serving", "submitted", "waiting", "handing_over", "handed_over")
        return self.wait(
            lambda told: (told["job"], order.index(told["phase"])) >= (job, order.index(phase)),
            f"job {job} to be {phase}",
        )

    def due(self) -> dict[str, Any]:
        """What it says once it is known when the next jobs are due."""
        return self.wait(lambda told: told["submit_at"], "the time of the next jobs")

    def loop(self, **how: Any) -> OpenLoop:
        """Streams through its door, by all APIs of its engine; `how` as OpenLoop has it."""
        apis = (OPENAI, OLLAMA) if "ollama" in self.first else (OPENAI,)
        token = (self.folder.with_name(self.id) / "user.token").read_text().strip()
        model = str(self.record["model"])
        return OpenLoop(self.find(), token, model, self.find, apis=apis, **how)

    def accounted(self) -> list[Job]:
        """Its jobs as sacct has them."""
        which = {i: (n, s) for n, one in enumerate(self.jobs, 1) for s, i in one.items()}
        asked = ["sacct", "-XnP", "-o", "JobIDRaw,Start,End,State", "-j", ",".join(which)]
        said = self.project.cluster.on(
            "login1", *asked, env={"SLURM_TIME_FORMAT": "%s"}, check=True
        ).stdout
        found = []
        for line in said.splitlines():
            job_id, begin, end, state = line.split("|")
            number, service = which[job_id]
            found.append(Job(number, service, job_id, _seconds(begin), _seconds(end), state))
        return sorted(found, key=lambda job: (job.number, job.service))


class Watch:
    """Notes each change of handover.json with its time, and when each job published its address
    (by the job's id), until it is left."""

    def __init__(self, chain: Chain) -> None:
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self.published: dict[str, float] = {}
        self._chain = chain
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def at(self, phase: str, job: int) -> float:
        """When a job came into a phase; NaN: it was not seen there."""
        for when, told in self.seen:
            if (told["job"], told["phase"]) == (job, phase):
                return when
        return float("nan")

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            told = self._chain.told
            if told and (not self.seen or told != self.seen[-1][1]):
                self.seen.append((time(), told))
            for path in self._chain.project.output.glob("*_ip_*.txt"):
                self.published.setdefault(path.stem.rpartition("_")[2], time())


@contextlib.contextmanager
def paced(
    project: Project, first_s: float = FIRST_S, pace_s: float = PACE_S
) -> Iterator[tuple[dict[str, Any], Path]]:
    """What makes a recipe's engine one with known times (a stand-in of vLLM, without a model), and
    the file as long as which is there none begins."""
    program, hold = project.folder / ".tools" / "bin" / PACED.program, project.folder / "hold"
    standin = project.folder / "tests" / "standin_vllm.py"
    program.write_text(_PACED.format(hold=hold, first=first_s, pace=pace_s, standin=standin))
    program.chmod(0o755)
    folder = project.folder / ".tools" / "models" / "tiny"
    script = HERE / "scripts" / "make_tiny_folder.py"
    subprocess.run([HERE / ".venv" / "bin" / "python", script, folder], check=True)
    try:
        yield {"engine": "vllm", "model": str(folder), "num_parallel": 64}, hold
    finally:
        program.unlink()
        hold.unlink(missing_ok=True)


def begin(project: Project, **changes: Any) -> Chain:
    """A chain whose first jobs are ready."""
    result = project.orch(project.recipe(**{**CHAIN, **changes}), "--no-benchmark")
    assert result.returncode == 0, result.stdout + result.stderr
    return Chain(project)


def assert_all_ok(streams: list[Stream]) -> None:
    """None failed, and none was cut."""
    wrong = [str(stream) for stream in streams if not stream.ok]
    assert not wrong, f"{len(wrong)} of {len(streams)}: " + "; ".join(wrong[:10])


def assert_served_by(project: Project, chain: Chain, number: int) -> None:
    """The deployment is as ever, with its jobs NUMBER; no job is there that is not of the chain."""
    record = project.records()[-1]
    assert record["state"] == "ready", record
    ours = {job_id for jobs in chain.jobs for job_id in jobs.values()}
    assert set(project.cluster.queue()) <= ours
    assert {name: job["id"] for name, job in record["jobs"].items()} == chain.jobs[number - 1]
    assert record["endpoints"]["client"] == chain.find()
    assert project.curl(f"{chain.find()}/health")["status"] == "healthy"


def assert_stops(project: Project, filler: object = None) -> None:
    """The newest deployment ends, and no job is left but, if there is one, the filler."""
    result = project.orch("--stop", project.record()["id"])
    assert result.returncode == 0, result.stdout + result.stderr
    others = {filler} if isinstance(filler, str) else set()
    wait_until(lambda: set(project.cluster.queue()) <= others, PATIENCE_S, "the end of all jobs")
    for job_id in others:
        project.cluster.on("login1", "scancel", str(job_id), check=True)
    project.assert_nothing_left()
    assert project.records()[-1]["state"] == "stopped"


def began(project: Project, chain: Chain, number: int) -> bool:
    """Whether the engine's job of the jobs NUMBER runs."""
    jobs = chain.jobs
    engine = jobs[number - 1].get("vllm") if len(jobs) >= number else None
    return bool(engine) and (project.output / "logs" / f"{engine}.started").exists()


def all_gpus(project: Project) -> str:
    """A job that will have all GPUs, before any that comes later."""
    command = ["sbatch", "--parsable", "-A", "research", "-p", "gpu", "--gres=gpu:4",
               "-o", "/dev/null", "--wrap", "sleep 900"]  # fmt: skip
    return project.cluster.on("login1", *command, check=True).stdout.strip()


def _seconds(said: str) -> float:
    return float(said) if said.isdecimal() else 0.0
