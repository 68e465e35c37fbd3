"""A batch over several jobs of real Slurm, each of which submits the next one, and with any of its
parts killed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from batch_kills import ENDS_S, check
from chains import NEXT_S, all_gpus, assert_stops
from events import PATIENCE_S, kill_all
from project import Project
from slurmcluster import HostProcess, wait_until
from test_faults_use import no_cable, site
from test_replicas import is_server

#: Our scripts hand over 20 s earlier: until then a busy machine, too, has an engine that answers.
SHORT = "2:00"


def lines(project: Project, number: int, tokens: int, **how: float) -> Path:
    """Write so many prompts; gives the file that the answers will be in."""
    path = project.folder / "prompts.jsonl"
    path.write_text(
        "".join(
            json.dumps({"custom_id": f"q{n}", "prompt": f"Say {n}", "max_tokens": tokens, **how})
            + "\n"
            for n in range(number)
        )
    )
    for old in project.folder.glob("prompts.out*"):
        old.unlink()
    return project.folder / "prompts.out.jsonl"


def recipe(project: Project, **changes: Any) -> str:
    """A recipe that works it off."""
    batch = {"input": "prompts.jsonl", "max_jobs": 20}
    none = {"n_clients": 1, "n_requests_per_client": 0}
    return project.recipe("batch.json", batch=batch, **{**none, **changes})


def answered(path: Path) -> list[str]:
    """The custom_id of each answer; the last line may be under way."""
    return [json.loads(line)["custom_id"] for line in path.read_text().split("\n")[:-1]]


def test_the_next_job_goes_on_with_it_and_stop_leaves_none_behind(project: Project) -> None:
    """More lines than any machine answers in the time."""
    out = lines(project, 5000, 400)
    begun = project.orch(recipe(project, time=SHORT), "--detach")
    assert begun.returncode == 0, begun.stderr

    def batch() -> dict[str, Any]:
        found: dict[str, Any] = project.records()[-1]["batch"]
        return found

    # The first one is there for 100 s by itself.
    wait_until(lambda: batch()["job"] > 1, NEXT_S, "the second job")
    before = len(answered(out))
    wait_until(lambda: len(answered(out)) > before, NEXT_S, "an answer of the second job")
    record = project.records()[-1]
    assert record["state"] in ("starting", "ready", "degraded")
    result = project.orch("--stop", record["id"])
    assert result.returncode == 0, result.stderr
    project.assert_nothing_left()
    assert len(set(answered(out))) == len(answered(out)), "no line is answered twice"
    assert project.records()[-1]["batch"]["state"] == "interrupted"


@pytest.mark.long
def test_stop_leaves_no_successor_that_waits_in_the_queue(project: Project) -> None:
    """Submitted at the time limit, its next jobs find all GPUs taken."""
    out = lines(project, 5000, 400)
    begun = project.orch(recipe(project, time=SHORT), "--detach")
    assert begun.returncode == 0, begun.stderr
    wait_until(lambda: out.exists() and bool(answered(out)), PATIENCE_S, "an answer")
    filler = all_gpus(project)
    first = {str(job["id"]) for job in project.record()["jobs"].values()}

    def wait_in_the_queue() -> bool:
        queue = set(project.cluster.queue())
        return not queue & first and len(queue - {filler}) == len(first)

    wait_until(wait_in_the_queue, NEXT_S, "the next jobs")
    assert_stops(project, filler)
    assert len(set(answered(out))) == len(answered(out)), "no line is answered twice"


@pytest.mark.long
def test_a_batch_ends_when_its_engines_node_has_failed(project: Project) -> None:
    """The job could not say so; nobody but the client's job looks, and it does not wait for the
    time limit."""
    out = lines(project, 5000, 400)
    profile = site(project, directives=["--no-requeue"])
    begun = project.orch(recipe(project), "--site", profile, "--detach")
    assert begun.returncode == 0, begun.stderr
    wait_until(lambda: out.exists() and bool(answered(out)), PATIENCE_S, "an answer")
    with no_cable(project.cluster, "gpu1"):
        wait_until(lambda: project.records()[-1]["state"] == "failed", ENDS_S, "the batch's end")
        client = project.job_id("client")
        said = (project.output / "logs" / f"{client}.rc").read_text()
        assert "could not say so: its node has failed" in said
    nothing_lives(project)


@pytest.mark.long
def test_a_batch_longer_than_its_jobs_ends_by_itself(project: Project) -> None:
    out = lines(project, 5000, 400)
    result = project.orch(recipe(project, time=SHORT), timeout=3600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(answered(out)) == sorted(f"q{n}" for n in range(5000))
    record = project.records()[-1]
    assert record["state"] == "ended"
    assert record["batch"]["job"] >= 2
    project.assert_nothing_left()


def nothing_lives(project: Project) -> None:
    """What was killed could not clean up its temporary files; all else is gone."""
    left = project.leaks.found
    wait_until(lambda: all(one.startswith("file ") for one in left()), PATIENCE_S, "the last job")


class Killed:
    """One batch of so many lines on two replicas, each of which answers one request at a time, so
    that the same line has the same answer."""

    slots = 2
    #: Killed by -9, as the shell says it that has begun it on its host.
    ended = (-signal.SIGKILL, 128 + signal.SIGKILL)
    kinds: ClassVar[Mapping[str, Sequence[int]]] = {
        "orch": ended, "client": (4,), "replica": (), "all": ended,
    }  # fmt: skip

    def __init__(self, project: Project, number: int) -> None:
        self.project, self.number = project, number
        lines(project, number, 16, temperature=0, seed=1)
        self.recipe = project.recipe(
            "killed.json", time="30:00", gpus=2, cpus=2, replicas_per_node="per_gpu",
            num_thread=1, num_parallel=1,
        )  # fmt: skip
        self._dice, self._before = random.Random(2), self._answered()

    def path(self, out: str) -> Path:
        return self.project.folder / f"{out}.jsonl"

    def command(self, out: str) -> list[str]:
        return ["--batch", "prompts.jsonl", "--out", str(self.path(out)), self.recipe]

    def run(self, out: str) -> subprocess.CompletedProcess[str]:
        return self.project.orch(*self.command(out), timeout=ENDS_S * 4)

    def start(self, out: str) -> HostProcess:
        return self.project.start(*self.command(out))

    def deployments(self) -> int:
        return len([*self.project.output.glob("deployments/*.json")])

    def asked(self) -> int:
        return self._answered() - self._before

    def _answered(self) -> int:
        logs = (self.project.output / "logs").glob("ollama_*")
        said = [re.findall(r'POST +"/api/chat"', log.read_text(errors="replace")) for log in logs]
        return sum(map(len, said))

    def kill(self, what: str, command: subprocess.Popen[str]) -> None:
        assert isinstance(command, HostProcess)
        if what == "replica":
            os.kill(self._dice.choice(self._servers()), signal.SIGKILL)
            return
        if what in ("orch", "all"):
            os.kill(command.command_pid(), signal.SIGKILL)
        jobs = self.project.record()["jobs"].items()
        ours = [job["id"] for service, job in jobs if what in (service, "all")]
        # At once, as by a node that fails: an engine that outlives what writes its log would
        # answer what nobody counts.
        kill_all([pid for number in ours for pid in self._of_job(number)])

    def _of_job(self, number: str) -> list[int]:
        """All of its processes, and its script first: it is not to clean up."""
        cluster, name = self.project.cluster, f"SLURM_JOB_ID={number}\0".encode()
        there = cluster.pids(self.project.host_of(number))
        return [pid for pid in there if name in cluster.told_by(pid, "environ")]

    def _servers(self) -> list[int]:
        """The replicas that are there; one that was killed comes back."""
        found: list[int] = []

        def there() -> bool:
            found[:] = [pid for pid in self.project.cluster.pids("gpu1") if is_server(pid)]
            return bool(found)

        wait_until(there, PATIENCE_S, "a replica")
        return found


@pytest.mark.long
def test_twenty_kills_cost_no_answer_and_ask_none_again(project: Project) -> None:
    check(Killed(project, 5000), kills=20)
    nothing_lives(project)
