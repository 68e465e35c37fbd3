"""A deployment on real Slurm that is watched: the scheduler's word on its jobs."""

from __future__ import annotations

import json
import signal

from events import PATIENCE_S
from project import Project
from slurmcluster import HostProcess, wait_until

from contracts.json_object import JsonObject


def event(watching: HostProcess, name: str) -> JsonObject:
    """The next event of that name, of --watch --json."""
    last = watching.read_until(f'{{"event": "{name}"', PATIENCE_S).splitlines()[-1]
    found: JsonObject = json.loads(last)
    return found


def test_slurm_is_asked_for_who_watches_and_for_nobody_else(project: Project) -> None:
    recipe = project.recipe(n_clients=1, n_requests_per_client=0, time="5:00")
    begun = project.orch(recipe, "--detach")
    assert begun.returncode == 0, begun.stderr
    (record,) = project.records()
    numbers = [job["id"] for job in record["jobs"].values()]
    folder = project.output / "deployments" / f"{record['id']}.live"
    watching = project.start("--watch", record["id"], "--json")
    wait_until((folder / "jobs").exists, PATIENCE_S, "what Slurm says")
    said = [line.split("|") for line in (folder / "jobs").read_text().splitlines()]
    assert sorted(fields[0] for fields in said) == sorted(numbers)
    assert {fields[1] for fields in said} == {"RUNNING"}
    told = event(watching, "jobs")["data"]
    assert {job["reason"] for job in told} == {"runs"}
    assert all(job["host"] and job["ends"] - job["began"] == 300 for job in told)
    watching.send_signal(signal.SIGINT)
    assert watching.end().returncode == 0
    wait_until(lambda: not (folder / "watched").exists(), PATIENCE_S, "nobody to watch")
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()
