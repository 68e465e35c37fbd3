"""What becomes of jobs in a real queue, and what orch makes of it: reasons, requeues, outages."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from project import USER, Project
from slurmcluster import wait_until

#: An Ollama that waits for a file before it serves.
PATIENT = '#!/bin/sh\nuntil [ -e {gate} ]; do sleep 0.1; done\nexec "$0.real" "$@"\n'


def control(project: Project, *arguments: str, user: str = USER) -> None:
    """scontrol, on the login node."""
    project.cluster.on("login1", "scontrol", *arguments, user=user, check=True)


@contextmanager
def stopped(project: Project, daemon: str = "slurmctld") -> Iterator[None]:
    """The daemon hangs: it holds its connections and answers nobody."""
    pid = project.cluster.daemon_pid("head", daemon)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def command(project: Project, name: str, script: str) -> Iterator[dict[str, str]]:
    """An environment in which a command of Slurm's is a script."""
    folder = project.folder / "shims"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    try:
        yield {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}
    finally:
        path.unlink()


@contextmanager
def gated_ollama(project: Project) -> Iterator[Path]:
    """Ollama starts to serve only once the file that this gives is there."""
    gate = project.folder / "gate"
    try:
        with project.ollama_is(PATIENT.format(gate=gate)):
            yield gate
    finally:
        gate.unlink(missing_ok=True)


# --- reasons -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"partition": "short", "time": "1:00:00"}, r"longer than .*\(PartitionTimeLimit\); lower"),
        ({"partition": "cpu", "nodes": 3}, r"that many nodes .*\(PartitionNodeLimit\); change"),
        ({"qos": "shortq", "time": "20:00"}, r"\(QOSMaxWallDurationPerJobLimit\); lower"),
    ],
)
def test_job_that_can_never_start_is_refused_at_once(
    project: Project, changes: dict[str, object], reason: str
) -> None:
    recipe = project.recipe(**{"gpus": 0, **changes})
    begin = time.monotonic()
    result = project.orch(recipe)
    assert result.returncode == 3, result.stdout + result.stderr
    assert re.search(rf"Slurm will never start the ollama job \d+: .*{reason}", result.stderr)
    assert time.monotonic() - begin < 15
    project.assert_nothing_left()


def test_held_job_is_said_at_once_and_waited_for(project: Project) -> None:
    project.fill_gpus()
    assert project.orch(project.recipe(), "--detach").returncode == 0
    job_id = project.job_id("ollama")
    control(project, "hold", job_id)
    process = project.start("--attach")
    said = process.read_until("held by its user")
    assert f"scontrol release {job_id}" in said.splitlines()[-1]
    project.cluster.on("login1", "scancel", "--state=RUNNING", "-u", USER, check=True)
    control(project, "release", job_id)
    result = process.end(60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_expected_start_is_said_where_slurm_knows_it(project: Project) -> None:
    project.fill_gpus()
    assert project.orch(project.recipe(), "--detach").returncode == 0
    show = ["squeue", "-h", "-j", project.job_id("ollama"), "-o", "%S"]
    # backfill makes the estimate, each second here
    wait_until(lambda: "N/A" not in project.cluster.on("login1", *show).stdout, 30, "an estimate")
    process = project.start("--attach")
    assert "Resources" in process.read_until("expected to start ").splitlines()[-1]
    process.send_signal(signal.SIGINT)
    assert process.end(60).returncode == 130


def test_cancelled_in_the_queue_by_somebody_else(project: Project) -> None:
    project.fill_gpus()
    process = project.start(project.recipe())
    process.read_until("(Resources)")
    job_id = project.job_id("ollama")
    # of the client's job, too: it would start now, and say that its Ollama has been cancelled
    both = [job_id, project.job_id("client")]
    project.cluster.on("head", "scancel", *both, user="root", check=True)
    result = process.end(60)
    assert result.returncode == 4, result.stdout + result.stderr
    assert f"the ollama job {job_id} [CANCELLED] was cancelled by user root" in result.stderr


# --- requeued ------------------------------------------------------------------------------------


def test_requeued_job_is_followed(project: Project) -> None:
    """As after a preemption: its script is told to end, and it comes again under its id."""
    with gated_ollama(project) as gate:
        process = project.start(project.recipe())
        process.read_until("client   serves at")
        job_id = project.job_id("ollama")
        control(project, "requeue", job_id)
        assert f"job {job_id} was requeued" in process.read_until("requeued")
        gate.touch()
        control(project, "update", f"jobid={job_id}", "StartTime=now")
        result = process.end(120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(f"job {job_id} has begun") == 1
    assert "4 of 4 requests succeeded" in result.stdout


def test_job_that_is_requeued_during_the_benchmark_ends_the_run(project: Project) -> None:
    process = project.start(project.recipe(n_requests_per_client=400, num_predict=64))
    process.read_until("benchmark: 2 clients")
    job_id = project.job_id("ollama")
    control(project, "requeue", job_id)
    result = process.end(60)
    assert result.returncode == 4, result.stdout + result.stderr
    assert f"the ollama job {job_id} was requeued during the run" in result.stderr
    project.assert_nothing_left()


# --- a controller that does not answer -----------------------------------------------------------


def test_controller_that_hangs_during_the_wait_holds_up_nothing(project: Project) -> None:
    """All looks at the queue are in vain; the files and the services say enough."""
    with gated_ollama(project) as gate:
        process = project.start(project.recipe())
        process.read_until("client   serves at")
        with stopped(project):
            gate.touch()
            result = process.end(60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 of 4 requests succeeded" in result.stdout


def test_controller_that_is_down_during_the_wait_and_comes_back(project: Project) -> None:
    project.fill_gpus()
    process = project.start(project.recipe())
    process.read_until("is submitted")
    # by SIGTERM it keeps its state; by SIGKILL it would lose the jobs of the last seconds
    os.kill(project.cluster.daemon_pid("head", "slurmctld"), signal.SIGTERM)
    try:
        assert "Unable to contact slurm controller" in process.read_until("the wait goes on")
        status = project.orch("--status")
        assert status.returncode == 3
        assert "starting (unchecked)" in status.stdout
    finally:
        project.cluster.up()
    project.cluster.on("login1", "scancel", "--state=RUNNING", "-u", USER, check=True)
    result = process.end(90)
    assert result.returncode == 0, result.stdout + result.stderr


#: sbatch, once the test has had time to do something to the controller.
GATED_SBATCH = """touch {folder}/asked
until [ -e {folder}/go ]; do sleep 0.05; done
/usr/bin/sbatch "$@"; code=$?
echo $code >>{folder}/answered; exit $code
"""


def test_submission_that_a_hung_controller_takes_is_not_made_twice(project: Project) -> None:
    folder = project.folder
    with command(project, "sbatch", GATED_SBATCH.format(folder=folder)) as environment:
        orch = ["python3", "-u", "orch.py", project.recipe(), "--no-benchmark"]
        process = project.cluster.popen("login1", *orch, env=environment, cwd=project.folder)
        wait_until((folder / "asked").exists, 20, "orch to call sbatch")
        with stopped(project):
            (folder / "go").touch()
            wait_until((folder / "answered").exists, 30, "sbatch to give up")
        result = process.end(90)
        codes = (folder / "answered").read_text().split()
        assert codes == ["1", "0"], "one in vain, yet taken; one for the client"
        for name in ("asked", "go", "answered"):
            (folder / name).unlink()
    assert result.returncode == 0, result.stdout + result.stderr
    show = ["sacct", "-XnP", "-o", "jobname%80", "-S", "now-5minutes"]
    name = max((project.output / "deployments").glob("*.json"), key=_age).stem
    names = project.cluster.on("login1", *show, check=True).stdout.split()
    assert sorted(n for n in names if n.startswith(name)) == [f"{name}.client", f"{name}.ollama"]


def test_controller_that_is_down_at_submission_is_given_up_within_about_a_minute(
    project: Project,
) -> None:
    site = project.folder / "site.json"
    site.write_text(
        '{"name": "x", "scheduler": "slurm", "gpu_partitions": ["gpu"], "cpu_partitions": ["cpu"]}'
    )
    recipe = project.recipe()
    # by SIGKILL it would forget the ends of jobs in the last seconds, and bring them back
    os.kill(project.cluster.daemon_pid("head", "slurmctld"), signal.SIGTERM)
    begin = time.monotonic()
    try:
        result = project.orch(recipe, "--site", str(site))
        seconds = time.monotonic() - begin
    finally:
        project.cluster.up()
    assert result.returncode == 3, result.stdout + result.stderr
    assert seconds < 90
    assert "ollama job could not be submitted" in result.stderr
    assert project.orch("--stop", "all").returncode == 0, "and there is nothing to be found"
    project.assert_nothing_left()


def _age(path: Path) -> float:
    return path.stat().st_mtime


SLOW = """exec 9>>{log}.lock; flock -n 9 || echo overlap >>{log}
echo call >>{log}; sleep 10; exec /usr/bin/squeue "$@"
"""


def test_slow_squeue_holds_up_neither_success_nor_failure_and_is_asked_once_at_a_time(
    project: Project,
) -> None:
    log = project.folder / "squeue.log"
    with command(project, "squeue", SLOW.format(log=log)) as environment:
        begin = time.monotonic()
        result = project.orch(project.recipe(), env=environment)
        assert result.returncode == 0, result.stdout + result.stderr
        assert time.monotonic() - begin < 20
        assert project.orch("--stop", "all").returncode == 0
        wait_until(lambda: not project.cluster.pids("login1"), 15, "the last squeue to end")
        recipe = project.recipe(model="nosuchmodel:1b")
        orch = ["python3", "-u", "orch.py", recipe]
        process = project.cluster.popen("login1", *orch, env=environment, cwd=project.folder)
        begin = time.monotonic()
        assert "has ended" not in process.read_until("cancelling")
        assert time.monotonic() - begin < 20
        result = process.end(60)
    assert result.returncode == 4, result.stdout + result.stderr
    assert "cannot pull nosuchmodel:1b" in result.stderr
    assert set(log.read_text().split()) == {"call"}, "no overlap"
    project.assert_nothing_left()


# --- orch is killed ------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["submitting", "starting", "ready"])
def test_killed_orch_leaves_a_deployment_that_can_be_seen_and_stopped(
    project: Project, stage: str
) -> None:
    """`submitting`: the ollama job is taken by Slurm, and orch dies before it can write that."""
    recipe = project.recipe(n_requests_per_client=300)
    if stage == "submitting":
        with command(project, "sbatch", '/usr/bin/sbatch "$@"\nkill -9 $PPID') as environment:
            assert project.orch(recipe, env=environment).returncode != 0
    else:
        process = project.start(recipe)
        process.read_until({"starting": "is submitted", "ready": "benchmark: 2"}[stage])
        os.kill(process.command_pid(), signal.SIGKILL)
        process.wait(10)
    status = project.orch("--status")
    assert status.returncode == 0, status.stderr
    line = status.stdout.splitlines()[-1]
    assert f" {stage} " in line
    assert re.search(r"ollama \d+ (RUNNING|PENDING|CONFIGURING)", line), "none is orphaned"
    assert project.orch("--stop", line.split()[0]).returncode == 0
    assert " stopped " in project.orch("--status").stdout.splitlines()[-1]
    project.assert_nothing_left()
