"""On a cluster that holds jobs to their cores (ConstrainCores), and has no more than the machine:
an engine with one core takes one thread, on that core, and leaves the other to its neighbour."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import Project
from slurmcluster import PATIENCE_S, wait_until
from test_other_layout import laid_out


@pytest.fixture(scope="module")
def bound(installed: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project on such a cluster."""
    with laid_out(installed, tmp_path_factory, "bound") as project:
        yield project


@pytest.mark.long
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one core")
def test_an_engine_of_one_core_serves_beside_a_busy_neighbour(bound: Project) -> None:
    bound.leaks.begin()
    recipe = bound.recipe(partition="cpu", client_partition="cpu", gpus=0, mem_gb=2, account=None)
    result = bound.orch(recipe, "--no-benchmark")
    assert result.returncode == 0, result.stdout + result.stderr
    record = bound.records()[-1]
    host = bound.host_of(bound.job_id("ollama"))
    cores = _cores(bound, host, b"ollama")
    assert len(cores) == 1, "all of its processes, and of one core"
    shown = _ask(bound, record, "/api/show", model=record["model"])
    assert "num_thread" in shown["parameters"]
    assert shown["parameters"].split("num_thread")[1].split()[0] == "1"

    busy = 'exec bash -c "while :; do :; done #busy"'
    where = ["-p", "cpu", "-w", host, "-n1", "-c1", "--mem=100", "-o", "/dev/null"]
    bound.cluster.on("login1", "sbatch", "-J", "busy", *where, "--wrap", busy, check=True)
    wait_until(lambda: bool(_cores(bound, host, b"#busy")), PATIENCE_S, "the neighbour")
    assert not cores & _cores(bound, host, b"#busy"), "it has the other one"
    answer = _ask(bound, record, "/query", prompt="Hi", options={"num_predict": 40})
    assert answer["eval_count"] == 40
    bound.cluster.on("login1", "scancel", "-n", "busy", check=True)
    wait_until(lambda: not _cores(bound, host, b"#busy"), PATIENCE_S, "the neighbour's end")
    assert bound.orch("--stop", "all").returncode == 0
    bound.assert_nothing_left()


def _cores(project: Project, host: str, word: bytes) -> set[int]:
    """The cores on which the processes of a host may run whose command line has that word."""
    found: set[int] = set()
    for pid in project.cluster.pids(host):
        with contextlib.suppress(OSError):  # it has ended
            if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                found |= os.sched_getaffinity(pid)
    return found


def _ask(project: Project, record: dict[str, Any], path: str, **body: object) -> Any:
    client = record["endpoints"]["client"]
    header = ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return project.curl(f"{client}{path}", *header)
