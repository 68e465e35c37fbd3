"""The main job on real Slurm, as an ordinary user from the login node."""

from __future__ import annotations

import json
import re
import threading

from project import Project
from slurmcluster import PATIENCE_S, wait_until


def connections(project: Project, port: str) -> int:
    """Established connections to a port of gpu1, as that host counts them."""
    filter_ = ["state", "established", f"( sport = :{port} )"]
    result = project.cluster.on("gpu1", "ss", "-Htn", *filter_, user="root", check=True)
    return len(result.stdout.splitlines())


class Watch:
    """Counts connections to Ollama from its own host, as long as it is watched."""

    def __init__(self, project: Project) -> None:
        self.most = 0
        self._project = project
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            for path in self._project.output.glob("ollama_ip_*.txt"):
                port = path.read_text().strip().rpartition(":")[2]
                self.most = max(self.most, connections(self._project, port))
            self._over.wait(0.05)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_recipe_brings_up_ollama_and_client_where_they_belong(project: Project) -> None:
    recipe = project.recipe(
        n_clients=100, n_requests_per_client=2, question="Who are you?", num_predict=64
    )
    with Watch(project) as watch:
        result = project.orch(recipe, "--no-monitoring")
    project.assert_benchmarked(result)
    assert "200 of 200 requests succeeded, 100 clients" in result.stdout
    assert watch.most >= 100, "100 clients are 100 requests in flight, seen from the server"
    record = project.records()[-1]
    assert project.host_of(record["jobs"]["ollama"]["id"]) == "gpu1"
    assert project.host_of(record["jobs"]["client"]["id"]) in ("cpu1", "cpu2")
    if result.returncode == 0:  # else the machine was too busy to have all of them asked at once
        assert record["benchmark"]["concurrency"]["max"] == 100
    health = project.curl(record["endpoints"]["client"] + "/health")
    assert health["status"] == "healthy"
    assert "ssh -N -L" in result.stdout
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def test_gpus_are_asked_for_in_a_gpu_partition(project: Project) -> None:
    """Ready on a CPU is no success where a GPU was asked for."""
    result = project.orch(project.recipe(allow_cpu=False), "--no-monitoring")
    assert result.returncode == 4
    assert "sits on cpu: 0.00 of" in result.stderr
    (script,) = sorted((project.output / "scripts").glob("*.ollama.sh"))[-1:]
    assert "#SBATCH --gres=gpu:1" in script.read_text()
    project.assert_nothing_left()


def test_from_inside_a_job_with_sbatch(project: Project) -> None:
    recipe = project.recipe()
    stale = project.output / "ollama_ip_999999.txt"
    ended = project.output / "logs" / "999999.rc"  # without it nobody has seen that job's end
    ended.parent.mkdir(parents=True, exist_ok=True)
    ended.write_text("1\n\n")
    stale.write_text("10.0.0.1:1\n")
    command = ["sbatch", "--wait", "--parsable", "-A", "research", "slurm_orch.sh", recipe]
    result = project.cluster.on("login1", *command, cwd=project.folder)
    log = (project.folder / f"slurm_orch_{result.stdout.split()[0]}.out").read_text()
    project.assert_benchmarked(result)
    assert "4 of 4 requests succeeded" in log, log
    assert not stale.exists(), "what dead jobs left is cleared"
    assert list(project.output.glob("ollama_models/blobs/*"))
    assert project.records()[-1]["state"] == "ready", "the deployment outlives the job of orch"


def test_variables_of_an_outer_allocation_do_not_leak(project: Project) -> None:
    outer = {"SLURM_JOB_PARTITION": "down", "SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "1",
             "SLURM_NTASKS": "9", "SBATCH_ACCOUNT": "nosuch"}  # fmt: skip
    result = project.orch(project.recipe(), "--no-benchmark", env=outer)
    project.assert_benchmarked(result)


def test_detached_and_attached_from_another_shell(project: Project) -> None:
    detached = project.orch(project.recipe(), "--detach")
    assert detached.returncode == 0, detached.stderr
    result = project.orch("--attach")
    project.assert_benchmarked(result)
    assert "4 of 4 requests succeeded" in result.stdout


def test_two_deployments_side_by_side_and_a_newer_address_of_another_job(project: Project) -> None:
    for name in ("one.json", "two.json"):
        assert project.orch(project.recipe(name), "--no-benchmark").returncode == 0
    one, two = project.records()[-2:]
    assert one["endpoints"]["ollama"] != two["endpoints"]["ollama"], "one host, so another port"
    assert project.orch("--stop", one["id"]).returncode == 0
    question = [
        "-H",
        "Content-Type: application/json",
        "-d",
        json.dumps({"prompt": "Hi", "options": {"num_predict": 4}}),
    ]
    assert project.curl(two["endpoints"]["client"] + "/query", *question)["done"] is True


def test_wrong_model_fails_with_ollamas_own_words(project: Project) -> None:
    result = project.orch(project.recipe(model="nosuchmodel:1b"))
    assert result.returncode == 4
    assert re.search(r"ollama job \d+ .*cannot pull nosuchmodel:1b: pull model", result.stderr)
    project.assert_nothing_left()


def test_job_that_dies_while_starting_ends_it_with_state_and_log(project: Project) -> None:
    """Its file says so at once; the state is Slurm's."""
    shim = project.folder / ".tools" / "bin" / "ollama"
    real = shim.read_bytes()
    shim.unlink()
    shim.write_text("#!/bin/sh\necho 'the last words' >&2\nexit 7\n")
    shim.chmod(0o755)
    try:
        result = project.orch(project.recipe())
    finally:
        shim.unlink()
        shim.write_bytes(real)
        shim.chmod(0o755)
    assert result.returncode == 4
    assert "[FAILED]" in result.stderr
    assert "the last words" in result.stderr
    project.assert_nothing_left()


def test_client_ends_by_itself_when_its_ollama_is_cancelled_in_the_queue(project: Project) -> None:
    fill = ["sbatch", "-A", "research", "-p", "gpu", "--gres=gpu:4", "--wrap", "sleep 300"]
    project.cluster.on("login1", *fill, check=True)
    assert project.orch(project.recipe(), "--detach").returncode == 0
    jobs = project.records()[-1]["jobs"]
    project.cluster.on("login1", "scancel", jobs["ollama"]["id"], check=True)
    rc = project.output / "logs" / f"{jobs['client']['id']}.rc"
    wait_until(rc.exists, PATIENCE_S, "the client's job to end")
    assert f"the Ollama job {jobs['ollama']['id']} is CANCELLED" in rc.read_text()


def test_lost_terminal_only_detaches(project: Project) -> None:
    process = project.start(project.recipe())
    process.read_until("has begun")
    process.send_signal(1)
    process.wait(PATIENCE_S)
    result = project.orch("--attach")
    project.assert_benchmarked(result)
    assert "4 of 4 requests succeeded" in result.stdout


def test_interrupt_cancels_our_own_jobs(project: Project) -> None:
    process = project.start(project.recipe())
    process.read_until("is submitted")
    process.send_signal(2)
    assert process.wait(PATIENCE_S) == 130
    project.assert_nothing_left()


def test_queue_timeout_gives_up_with_the_reason(project: Project) -> None:
    fill = ["sbatch", "-A", "research", "-p", "gpu", "--gres=gpu:4", "--wrap", "sleep 300"]
    project.cluster.on("login1", *fill, check=True)
    result = project.orch(project.recipe(), "--queue-timeout", "10")
    assert result.returncode == 5
    assert re.search(r"in the queue after 10 s \(ollama job \d+: waits .*Resources", result.stderr)
    wait_until(lambda: len(project.cluster.queue()) == 1, PATIENCE_S, "the filler to be alone")


def test_refused_job_shows_slurms_words(project: Project) -> None:
    result = project.orch(project.recipe(partition="nosuch"))
    assert result.returncode == 3
    assert "Invalid partition name specified" in result.stderr
    project.assert_nothing_left()
