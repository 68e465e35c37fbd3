"""Deployments of which nobody asks anything, on real Slurm: who ends what."""

from __future__ import annotations

import json
import time

from events import PATIENCE_S
from project import USER, Project
from slurmcluster import ENDS_S, wait_until

IDLE = "10s"
NO_LOAD = {"n_clients": 1, "n_requests_per_client": 0}
#: One token: a model of random weights ends no answer by itself.
BODY = json.dumps({"prompt": "Hi", "options": {"num_predict": 1}})


def test_nobody_asks_and_all_jobs_end_with_a_reason(project: Project) -> None:
    """Without orch, which has left."""
    result = project.orch(project.recipe(idle_timeout=IDLE, **NO_LOAD), "--detach")
    assert result.returncode == 0, result.stderr
    wait_until(
        lambda: project.records()[-1]["state"] == "ended", ENDS_S, "the end of the deployment"
    )  # before it comes all of its start
    record = project.records()[-1]
    assert set(record["job_states"].values()) == {"ended: idle for 10 seconds"}
    for service in ("ollama", "client"):
        status = project.output / "logs" / f"{project.job_id(service)}.rc"
        assert status.read_text() == "0\nidle for 10 seconds\n"
    project.assert_nothing_left()


def engine_jobs(project: Project) -> list[str]:
    """The ids of those that Slurm has now."""
    squeue = ["squeue", "-h", "-u", USER, "-o", "%A %j"]
    lines = project.cluster.on("login1", *squeue, check=True).stdout.splitlines()
    return [line.split()[0] for line in lines if line.endswith(".ollama")]


def test_the_first_request_has_the_gpu_job_submitted_and_stop_leaves_nothing(
    project: Project,
) -> None:
    recipe = project.recipe(idle_timeout=IDLE, on_request=True, **NO_LOAD)
    result = project.orch(recipe)
    assert result.returncode == 0, result.stdout + result.stderr
    assert engine_jobs(project) == []
    url = project.record()["endpoints"]["client"]
    assert project.curl(f"{url}/health")["status"] == "sleeping"
    began = time.monotonic()
    ask = ["-H", "Content-Type: application/json", "-d", BODY]
    assert project.curl(f"{url}/query", *ask)["response"]
    print(f"wake_s {time.monotonic() - began:.2f}")
    record = project.records()[-1]
    chain = project.output / "deployments" / f"{record['id']}.chain" / "jobs"
    job = chain.read_text().split()[-1].partition(";")[0]
    wait_until(lambda: engine_jobs(project) == [], PATIENCE_S, "the end of the GPU job")
    print(f"asleep_s {time.monotonic() - began:.2f}")
    assert (project.output / "logs" / f"{job}.rc").read_text() == "0\nidle for 10 seconds\n"
    assert project.curl(f"{url}/health")["status"] == "sleeping"
    assert project.records()[-1]["state"] == "ready"
    command = ["curl", "-s", "--noproxy", "*", *project.header(url), *ask, f"{url}/query"]
    waiting = project.cluster.popen("login1", *command)
    wait_until(lambda: engine_jobs(project), PATIENCE_S, "the second GPU job")
    result = project.orch("--stop", record["id"])
    assert result.returncode == 0, result.stderr
    waiting.end()
    assert engine_jobs(project) == []
    project.assert_nothing_left()
