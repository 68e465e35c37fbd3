"""What becomes of jobs in a real queue, and what orch makes of it: reasons, requeues, outages."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from faults import Fault
from project import PROXY, USER, Project
from slurmcluster import ADDRESSES, PATIENCE_S, wait_until
from test_handover_faults import no_controller


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


# --- reasons -------------------------------------------------------------------------------------


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
    result = process.end()
    project.assert_benchmarked(result)


def test_expected_start_is_said_where_slurm_knows_it(project: Project) -> None:
    project.fill_gpus()
    assert project.orch(project.recipe(), "--detach").returncode == 0
    show = ["squeue", "-h", "-j", project.job_id("ollama"), "-o", "%S"]
    # backfill makes the estimate, each second here
    wait_until(
        lambda: "N/A" not in project.cluster.on("login1", *show).stdout, PATIENCE_S, "an estimate"
    )
    process = project.start("--attach")
    assert "Resources" in process.read_until("expected to start ").splitlines()[-1]
    process.send_signal(signal.SIGINT)
    assert process.end().returncode == 130


def test_cancelled_in_the_queue_by_somebody_else(project: Project) -> None:
    project.fill_gpus()
    process = project.start(project.recipe())
    process.read_until("(Resources)")
    job_id = project.job_id("ollama")
    # Before it the client's job: it would start now, and say that its Ollama has been cancelled.
    for cancelled in (project.job_id("client"), job_id):
        project.cluster.on("head", "scancel", cancelled, user="root", check=True)
    result = process.end()
    assert result.returncode == 4, result.stdout + result.stderr
    assert f"the ollama job {job_id} [CANCELLED] was cancelled by user root" in result.stderr


# --- requeued ------------------------------------------------------------------------------------


#: The script of a job that takes all of cpu1, or of cpu2 from those in the partition `lowq`.
WHOLE_NODE = ("sbatch", "--parsable", "-A", "research", "-c", "32", "-o", "/dev/null", "--wrap",
              "sleep 600")  # fmt: skip


def test_preempted_job_is_followed_to_its_new_node(project: Project, fault: Fault) -> None:
    """It runs on cpu2, since cpu1 is full; preempted, it comes again on cpu1, which is free now."""
    on = project.cluster.on
    filler = on("login1", *WHOLE_NODE, "-w", "cpu1", "-p", "cpu", check=True).stdout.strip()
    recipe = project.recipe(partition="lowq", client_partition="gpu", gpus=0, cpus=1, mem_gb=2)
    with project.gated_ollama() as gate:
        process = project.start(recipe, "--no-benchmark")
        process.read_until("client   serves at")
        job_id = project.job_id("ollama")
        assert project.host_of(job_id) == "cpu2"
        high = on("login1", *WHOLE_NODE, "-p", "high", check=True).stdout.strip()
        fault.happens("19 preempted and requeued")
        said = process.read_until(f"job {job_id} was requeued")
        fault.seen(f"told: {said.splitlines()[-1][18:58]}; served from another node")
        on("login1", "scancel", filler, check=True)
        gate.touch()
        # Slurm lets a job that was requeued wait for two minutes
        wait_until(lambda: "PENDING" in state_of(project, job_id), PATIENCE_S, "the queue")
        control(project, "update", f"jobid={job_id}", "StartTime=now")
        result = process.end()
    project.assert_benchmarked(result)
    assert project.host_of(job_id) == "cpu1"
    (url,) = project.record()["endpoints"]["ollama"]
    assert url.startswith(f"http://{ADDRESSES['cpu1']}:")
    health = project.curl(project.record()["endpoints"]["client"] + "/health")
    assert [f"http://{one['address']}" for one in health["ollama"] if one["ok"]] == [url]
    assert project.orch("--stop", "all").returncode == 0
    on("login1", "scancel", high, check=True)


def state_of(project: Project, job_id: str) -> str:
    """What squeue says of a job."""
    return project.cluster.on("login1", "squeue", "-hj", job_id, "-o", "%T").stdout


def test_requeued_job_is_followed(project: Project) -> None:
    """Its script is told to end, and it comes again under its id."""
    with project.gated_ollama() as gate:
        process = project.start(project.recipe())
        process.read_until("client   serves at")
        job_id = project.job_id("ollama")
        control(project, "requeue", job_id)
        assert f"job {job_id} was requeued" in process.read_until("requeued")
        gate.touch()
        # Not at once: slurmd refuses a job that comes again in the very second in which it was
        # ended ("Job already killed, do not launch batch job"), and Slurm then fails it.
        control(project, "update", f"jobid={job_id}", "StartTime=now+2")
        result = process.end()
    project.assert_benchmarked(result)
    assert result.stdout.count(f"job {job_id} has begun") == 1
    assert "4 of 4 requests succeeded" in result.stdout


def test_job_that_is_requeued_during_the_benchmark_ends_the_run(project: Project) -> None:
    process = project.start(project.recipe(n_requests_per_client=400, num_predict=64))
    process.read_until("benchmark: 2 clients")
    job_id = project.job_id("ollama")
    control(project, "requeue", job_id)
    result = process.end()
    assert result.returncode == 4, result.stdout + result.stderr
    assert f"the ollama job {job_id} was requeued during the run" in result.stderr
    project.assert_nothing_left()


# --- a controller that does not answer -----------------------------------------------------------


def test_controller_that_hangs_during_the_wait_holds_up_nothing(project: Project) -> None:
    """All looks at the queue are in vain; the files and the services say enough."""
    with project.gated_ollama() as gate:
        process = project.start(project.recipe())
        process.read_until("client   serves at")
        with stopped(project):
            gate.touch()
            result = process.end()
    project.assert_benchmarked(result)
    assert "4 of 4 requests succeeded" in result.stdout


def test_controller_that_is_down_during_the_wait_and_comes_back(
    project: Project, fault: Fault
) -> None:
    project.fill_gpus()
    process = project.start(project.recipe())
    process.read_until("is submitted")
    # by SIGTERM it keeps its state; by SIGKILL it would lose the jobs of the last seconds
    os.kill(project.cluster.daemon_pid("head", "slurmctld"), signal.SIGTERM)
    fault.happens("21 slurmctld restarts during the wait")
    try:
        assert "Unable to contact slurm controller" in process.read_until("the wait goes on")
        fault.seen("told: the wait goes on")
        status = project.orch("--status")
        assert status.returncode == 3
        assert "starting (unchecked)" in status.stdout
    finally:
        project.cluster.up()
    project.cluster.on("login1", "scancel", "--state=RUNNING", "-u", USER, check=True)
    result = process.end()
    project.assert_benchmarked(result)
    assert "the wait goes on" not in result.stdout, "one line says so"
    assert project.orch("--stop", "all").returncode == 0


GARBAGE = """if [ -e {flag} ]; then printf '\\0\\377<html>%%|no|list\\n99|\\n'; exit {code}; fi
exec /usr/bin/{name} "$@"
"""


@pytest.mark.parametrize("code", [0, 1])
def test_squeue_that_prints_garbage(project: Project, fault: Fault, code: int) -> None:
    """A shim of squeue: it fails, or says that all is well, for half a minute. One of sacct, too:
    accounting may know of the jobs."""
    flag = project.folder / "garbage"
    flag.touch()
    filler = project.fill_gpus()
    squeue, sacct = (
        command(project, name, GARBAGE.format(flag=flag, code=code, name=name))
        for name in ("squeue", "sacct")
    )
    with squeue as environment, sacct:
        orch = ["python3", "-u", "orch.py", project.recipe(), "--no-benchmark"]
        process = project.cluster.popen(
            "login1", *orch, env={**PROXY, **environment}, cwd=project.folder
        )
        process.read_until("client   job")
        fault.happens(f"21 squeue prints garbage and gives {code} (a shim), for 30 s")
        process.read_until("the wait goes on")
        fault.seen("told: the wait goes on")
        flag.unlink()
        said = process.read_until("the scheduler answers again")
        assert "the wait goes on" not in said, "one line says so"
        project.cluster.on("login1", "scancel", filler, check=True)
        result = process.end()
        project.assert_benchmarked(result)
        assert project.orch("--stop", "all").returncode == 0


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
        wait_until((folder / "asked").exists, PATIENCE_S, "orch to call sbatch")
        with stopped(project):
            (folder / "go").touch()
            wait_until((folder / "answered").exists, PATIENCE_S, "sbatch to give up")
        result = process.end()
        codes = (folder / "answered").read_text().split()
        assert codes == ["1", "0"], "one in vain, yet taken; one for the client"
        for name in ("asked", "go", "answered"):
            (folder / name).unlink()
    project.assert_benchmarked(result)
    show = ["sacct", "-XnP", "-o", "jobname%80", "-S", "now-5minutes"]
    name = max((project.output / "deployments").glob("*.json"), key=_age).stem

    def submitted() -> list[str]:
        names = project.cluster.on("login1", *show, check=True).stdout.split()
        return sorted(n for n in names if n.startswith(name))

    # accounting hears of a job a moment after the controller has it
    wait_until(lambda: len(submitted()) >= 2, PATIENCE_S, "accounting to know both jobs")
    assert submitted() == [f"{name}.client", f"{name}.ollama"]


def test_controller_that_is_down_at_submission_is_given_up_within_about_a_minute(
    project: Project, fault: Fault
) -> None:
    site = project.folder / "site.json"
    site.write_text(
        '{"name": "x", "scheduler": "slurm", "gpu_partitions": ["gpu"], "cpu_partitions": ["cpu"]}'
    )
    recipe = project.recipe()
    # by SIGKILL it would forget the ends of jobs in the last seconds, and bring them back
    with no_controller(project.cluster):
        fault.happens("4 slurmctld is down at submission")
        result = project.orch(recipe, "--site", str(site))
        fault.ends(result, 3, "ollama job could not be submitted")
    assert fault.seconds < 240
    assert project.orch("--stop", "all").returncode == 0, "and there is nothing to be found"
    project.assert_nothing_left()


def _age(path: Path) -> float:
    return path.stat().st_mtime


SLOW = """exec 9>>{log}.lock; flock -n 9 || echo overlap >>{log}
echo {name} >>{log}; sleep 10; exec /usr/bin/{name} "$@"
"""


def test_slow_squeue_holds_up_neither_success_nor_failure(project: Project) -> None:
    log = project.folder / "slow.log"
    with command(project, "squeue", SLOW.format(log=log, name="squeue")) as environment:
        result = project.orch(project.recipe(), env=environment)
        project.assert_benchmarked(result)
        assert project.orch("--stop", "all").returncode == 0
        wait_until(lambda: not project.cluster.pids("login1"), PATIENCE_S, "the last squeue to end")
        recipe = project.recipe(model="nosuchmodel:1b")
        orch = ["python3", "-u", "orch.py", recipe]
        process = project.cluster.popen("login1", *orch, env=environment, cwd=project.folder)
        assert "has ended" not in process.read_until("cancelling")
        result = process.end()
    assert result.returncode == 4, result.stdout + result.stderr
    assert "cannot pull nosuchmodel:1b" in result.stderr
    assert "overlap" not in log.read_text()
    log.unlink()
    project.assert_nothing_left()


COMMANDS = ("sbatch", "squeue", "scancel", "sacct", "sinfo", "scontrol")


def test_slow_cluster(project: Project, fault: Fault) -> None:
    """Shims of all commands: each takes 10 s before it does what it does."""
    log = project.folder / "slow.log"
    with ExitStack() as shims:
        for name in COMMANDS:
            script = SLOW.format(log=log, name=name)
            environment = shims.enter_context(command(project, name, script))
        recipe = project.recipe()
        fault.happens("30 each of Slurm's commands takes 10 s (shims)")
        result = project.orch(recipe, env=environment)
        fault.seen(f"exit {result.returncode}, ready and measured")
        project.assert_benchmarked(result)
        assert "4 of 4 requests succeeded" in result.stdout
        assert project.orch("--status", env=environment).returncode == 0
        assert project.orch("--stop", "all", env=environment).returncode == 0
    called = log.read_text().split()
    log.unlink()
    assert {"sbatch", "squeue", "scancel"} <= set(called)
    assert "overlap" not in called, "never more than one call at a time"


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
        process.wait(PATIENCE_S)
    status = project.orch("--status")
    assert status.returncode == 0, status.stderr
    line = status.stdout.splitlines()[-1]
    assert f" {stage} " in line
    assert re.search(r"ollama \d+ (RUNNING|PENDING|CONFIGURING)", line), "none is orphaned"
    assert project.orch("--stop", line.split()[0]).returncode == 0
    assert " stopped " in project.orch("--status").stdout.splitlines()[-1]
    project.assert_nothing_left()
