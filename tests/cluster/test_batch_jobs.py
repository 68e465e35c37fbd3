"""A batch over several jobs of real Slurm, each of which submits the next one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from events import PATIENCE_S
from project import Project
from slurmcluster import wait_until

#: Our scripts hand over 20 s earlier: until then a busy machine, too, has an engine that answers.
SHORT = "2:00"


def lines(project: Project, number: int, tokens: int) -> Path:
    """Write so many prompts; gives the file that the answers will be in."""
    path = project.folder / "prompts.jsonl"
    path.write_text(
        "".join(
            json.dumps({"custom_id": f"q{n}", "prompt": f"Say {n}", "max_tokens": tokens}) + "\n"
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
    """The custom_id of each answer."""
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


def test_the_next_job_goes_on_with_it_and_stop_leaves_none_behind(project: Project) -> None:
    """More lines than any machine answers in the time."""
    out = lines(project, 5000, 400)
    begun = project.orch(recipe(project, time=SHORT), "--detach")
    assert begun.returncode == 0, begun.stderr

    def batch() -> dict[str, Any]:
        found: dict[str, Any] = project.records()[-1]["batch"]
        return found

    wait_until(lambda: batch()["job"] > 1, PATIENCE_S, "the second job")
    before = len(answered(out))
    wait_until(lambda: len(answered(out)) > before, PATIENCE_S, "an answer of the second job")
    record = project.records()[-1]
    assert record["state"] in ("starting", "ready", "degraded")
    result = project.orch("--stop", record["id"])
    assert result.returncode == 0, result.stderr
    project.assert_nothing_left()
    assert len(set(answered(out))) == len(answered(out)), "no line is answered twice"
    assert project.records()[-1]["batch"]["state"] == "interrupted"


@pytest.mark.long
def test_a_batch_longer_than_its_jobs_ends_by_itself(project: Project) -> None:
    out = lines(project, 1500, 400)
    result = project.orch(recipe(project, time=SHORT), timeout=3600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(answered(out)) == sorted(f"q{n}" for n in range(1500))
    record = project.records()[-1]
    assert record["state"] == "ended"
    assert record["batch"]["job"] >= 2
    project.assert_nothing_left()
