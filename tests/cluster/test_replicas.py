"""Several replicas of Ollama, one on each node of a job, on real Slurm."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from faults import Fault
from project import Project
from slurmcluster import PATIENCE_S, wait_until
from test_faults_use import requests_done


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_replicas_run_on_a_node_each(project: Project, scheme: str) -> None:
    recipe = project.recipe(partition="cpu", client_partition="gpu", mem_gb=2, nodes=2, cpus=1,
                            gpus=0, n_clients=4, tls=scheme == "https")  # fmt: skip
    result = project.orch(recipe)
    project.assert_benchmarked(result)
    assert "8 of 8 requests succeeded" in result.stdout
    record = project.records()[-1]
    urls = record["endpoints"]["ollama"]
    hosts = {re.sub(rf"{scheme}://(.*):\d+", r"\1", url) for url in urls}
    assert len(hosts) == 2
    assert {one["url"] for one in record["benchmark"]["replicas"]} == set(urls)
    client = record["endpoints"]["client"]
    assert client.startswith(f"{scheme}://")
    assert project.curl(f"{client}/health")["status"] == "healthy"
    assert project.curl(f"{client}/api/version")["version"], "the door asks them, too"
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def test_replica_that_dies_leaves_the_othersserving(project: Project) -> None:
    recipe = project.recipe(partition="cpu", client_partition="gpu", mem_gb=2, nodes=2, cpus=1,
                            gpus=0)  # fmt: skip
    assert project.orch(recipe, "--no-benchmark").returncode == 0
    record = project.records()[-1]
    kill_server(project, "cpu2")
    query = ["-H", "Content-Type: application/json", "-d",
             json.dumps({"prompt": "Hi", "options": {"num_predict": 4}})]  # fmt: skip
    for _ in range(4):
        assert project.curl(record["endpoints"]["client"] + "/query", *query)["done"] is True
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def test_replica_that_dies_under_load_loses_nothing_that_could_be_retried(
    project: Project, fault: Fault
) -> None:
    """What it had begun to answer is lost, everything else is answered by the other two."""
    recipe = project.recipe(partition="all", client_partition="all", nodes=3, gpus=0, cpus=1,
                            mem_gb=2, n_clients=6, n_requests_per_client=100)  # fmt: skip
    process = project.start(recipe)
    process.read_until("benchmark: 6 clients")
    wait_until(lambda: requests_done(project) > 20, PATIENCE_S, "the benchmark to get going")
    kill_server(project, "cpu2")
    fault.happens("26 one of three replicas dies under load")
    result = process.end()
    fault.seen(f"exit {result.returncode}, benchmark goes on to its end")
    project.assert_benchmarked(result)
    record = project.records()[-1]
    requests = record["benchmark"]["requests"]
    assert requests["succeeded"] + requests["failed"] == 600
    assert requests["failed"] <= 2, "those that the replica had begun to answer"
    (dead,) = [one for one in record["benchmark"]["replicas"] if one["outages"]]
    assert dead["url"] in result.stdout, "the note names it"
    health = project.curl(record["endpoints"]["client"] + "/health")
    assert health["status"] == "degraded"
    assert [one["ok"] for one in health["ollama"]].count(False) == 1
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def test_each_gpu_of_a_node_has_a_replica_and_one_that_dies_comes_back(project: Project) -> None:
    recipe = project.recipe(nodes=1, gpus=4, cpus=4, replicas_per_node="per_gpu", mem_gb=8,
                            num_thread=1, n_clients=8, n_requests_per_client=4)  # fmt: skip
    result = project.orch(recipe)
    project.assert_benchmarked(result)
    record = project.records()[-1]
    urls, client = record["endpoints"]["ollama"], record["endpoints"]["client"]
    assert len(set(urls)) == 4
    assert {one["url"] for one in record["benchmark"]["replicas"]} == set(urls)
    servers = [pid for pid in project.cluster.pids("gpu1") if is_server(pid)]
    devices = {pid: devices_of(pid) for pid in servers}
    assert sorted(devices.values()) == ["0", "1", "2", "3"], "one each, none twice"
    assert [one["gpus"] for one in record["replicas"]] == ["0", "1", "2", "3"]

    os.kill(servers[0], signal.SIGKILL)
    wait_until(lambda: serving(project, client) == 3, PATIENCE_S, "it to be missed")
    query = ["-H", "Content-Type: application/json", "-d",
             json.dumps({"prompt": "Hi", "options": {"num_predict": 4}})]  # fmt: skip
    assert project.curl(client + "/query", *query)["done"] is True, "three serve"
    wait_until(lambda: serving(project, client) == 4, PATIENCE_S, "it to come back")
    again = [pid for pid in project.cluster.pids("gpu1") if is_server(pid)]
    (new,) = set(again) - set(servers)
    assert devices_of(new) == devices[servers[0]], "on the GPU that it had"
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def devices_of(pid: int) -> str:
    """What the one variable says that a server's GPUs are in."""
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    names = ("CUDA_VISIBLE_", "ROCR_", "HIP_", "GPU_")
    (found,) = [w for w in words if w.startswith(names)]
    name, _, value = found.partition("=")
    assert name == "CUDA_VISIBLE_DEVICES"
    return value


def serving(project: Project, client: str) -> int:
    """How many replicas would answer, as /health says."""
    return [one["ok"] for one in project.curl(f"{client}/health")["ollama"]].count(True)


def kill_server(project: Project, host: str) -> None:
    """Kill `ollama serve` on a host; what it started goes with it."""
    (victim,) = [pid for pid in project.cluster.pids(host) if is_server(pid)]
    os.kill(victim, signal.SIGKILL)


def is_server(pid: int) -> bool:
    """Whether that is an `ollama serve`."""
    try:
        return b"ollama\0serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
