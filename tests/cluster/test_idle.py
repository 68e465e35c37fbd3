"""Deployments of which nobody asks anything, on real Slurm: who ends what."""

from __future__ import annotations

from events import PATIENCE_S
from project import Project
from slurmcluster import wait_until

IDLE = "10s"
NO_LOAD = {"n_clients": 1, "n_requests_per_client": 0}


def test_nobody_asks_and_all_jobs_end_with_a_reason(project: Project) -> None:
    """Without orch, which has left."""
    result = project.orch(project.recipe(idle_timeout=IDLE, **NO_LOAD), "--detach")
    assert result.returncode == 0, result.stderr
    wait_until(
        lambda: project.records()[-1]["state"] == "ended", PATIENCE_S, "the end of the deployment"
    )
    record = project.records()[-1]
    assert set(record["job_states"].values()) == {"ended: idle for 10 seconds"}
    for service in ("ollama", "client"):
        status = project.output / "logs" / f"{project.job_id(service)}.rc"
        assert status.read_text() == "0\nidle for 10 seconds\n"
    project.assert_nothing_left()
