"""Faults once jobs run: what ends under us, and an orch that dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from events import kill_all
from faults import Fault
from project import Project
from servers import LLAMACPP, OLLAMA, SILENT, Server, command_line, each_engine
from slurmcluster import PATIENCE_S, RUN, Cluster, HostProcess, wait_until

JSON = ("-H", "Content-Type: application/json", "-d")


def ready(project: Project, **changes: Any) -> dict[str, Any]:
    """The record of a deployment that is ready."""
    result = project.orch(project.recipe(**changes), "--no-benchmark")
    project.assert_benchmarked(result)
    return project.record()


def answer(project: Project, url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a service's answer to curl from the login node."""
    command = ["curl", "-sS", "--noproxy", "*", "-w", "\n%{http_code}", *project.header(url)]
    command += [*arguments, url]
    body, _, status = project.cluster.on("login1", *command, check=True).stdout.rpartition("\n")
    return int(status), json.loads(body)


def requests_done(project: Project) -> int:
    """How far the newest deployment's benchmark is."""
    record = project.record()
    run = record["benchmark"]["id"]
    _, found = answer(project, f"{record['endpoints']['client']}/benchmark/{run}")
    return int(found.get("progress", {}).get("done", 0))


def state(project: Project) -> str:
    """The newest deployment's, as --status has it."""
    return str(project.records()[-1]["state"])


def told_503(project: Project, client: str) -> str:
    """/health and /query both answer 503; what /health says."""
    code, health = answer(project, f"{client}/health")
    asked, _ = answer(project, f"{client}/query", *JSON, '{"prompt": "Hi"}')
    assert (code, asked) == (503, 503), health
    return str(health["error"]["message"])


# --- a service ends ------------------------------------------------------------------------------


@each_engine
def test_engine_crashes_after_it_was_ready(project: Project, fault: Fault, server: Server) -> None:
    record = ready(project, engine=server.engine)
    server.kill(project.cluster)
    fault.happens(f"12 {server.title} crashes after it was ready")
    wait_until(lambda: state(project) == "degraded", PATIENCE_S, "--status to say so")
    fault.seen("--status: degraded")
    words = told_503(project, record["endpoints"]["client"])
    job_id = record["jobs"][server.service]["id"]
    assert f"The {server.title} job {job_id} has ended (exit code 137" in words
    shown = project.orch("--status").stdout
    assert "the service stopped by itself with exit code 137" in shown
    assert project.orch("--stop", "all").returncode == 0


def test_time_limit_is_reached_while_in_use(project: Project, fault: Fault) -> None:
    record = ready(project)
    job_id = record["jobs"]["ollama"]["id"]
    end = ["scontrol", "update", f"jobid={job_id}", "EndTime=now+5"]
    project.cluster.on("login1", *end, check=True)
    fault.happens("17 time limit of Ollama's job while in use")
    address = project.output / f"ollama_ip_{job_id}.txt"
    wait_until(lambda: not address.exists(), 2 * PATIENCE_S, "the address file to go")
    wait_until(
        lambda: (project.output / "logs" / f"{job_id}.rc").exists(), PATIENCE_S, "the job's end"
    )
    words = told_503(project, record["endpoints"]["client"])
    fault.seen(f"/health: {words[:44]}")
    assert f"The Ollama job {job_id} has ended" in words
    assert "time limit" in words
    assert not list(project.output.glob(f"prometheus_assets/*_{job_id}.json"))
    assert project.orch("--stop", "all").returncode == 0


@each_engine
def test_engine_is_killed_during_the_benchmark(
    project: Project, fault: Fault, server: Server
) -> None:
    recipe = project.recipe(engine=server.engine, n_clients=4, n_requests_per_client=5000)
    process = project.start(recipe)
    process.read_until("benchmark: 4 clients")
    wait_until(lambda: requests_done(project) > 20, PATIENCE_S, "the first requests")
    server.kill(project.cluster)
    fault.happens(f"28 {server.title} is killed during the benchmark")
    fault.ends(process.end(), 6, rf"the {server.service} job \d+ .* exit code 137")
    benchmark = partial(project)
    assert benchmark["requests"]["failed"] == sum(benchmark["requests"]["errors"].values()) > 0
    assert benchmark["validity"]["valid"] is False


def test_ollama_killed_as_the_benchmark_begins(project: Project, fault: Fault) -> None:
    process = project.start(project.recipe(n_clients=4, n_requests_per_client=5000))
    process.read_until("all is ready")
    wait_until(lambda: bool(OLLAMA.processes(project.cluster)), PATIENCE_S, "ollama serve")
    OLLAMA.kill(project.cluster)
    fault.happens("28 Ollama is killed as the benchmark begins")
    fault.ends(process.end(), 6, "exit code 137")


def partial(project: Project) -> dict[str, Any]:
    """What the newest record says of its benchmark, which was cut short, and keeps."""
    benchmark: dict[str, Any] = project.record()["benchmark"]
    assert (benchmark["state"], benchmark["partial"]) == ("partial", True)
    requests = benchmark["requests"]
    assert 0 < requests["succeeded"] < requests["planned"]
    lines = (Path(benchmark["folder"]) / "requests.jsonl").read_text().splitlines()
    assert len(lines) >= requests["succeeded"]
    assert json.loads((Path(benchmark["folder"]) / "summary.json").read_text())["partial"] is True
    return benchmark


def test_client_is_cancelled_during_the_benchmark(project: Project, fault: Fault) -> None:
    process = project.start(project.recipe(n_clients=4, n_requests_per_client=5000))
    process.read_until("benchmark: 4 clients")
    wait_until(lambda: requests_done(project) > 20, PATIENCE_S, "the first requests")
    project.cluster.on("login1", "scancel", project.job_id("client"), check=True)
    fault.happens("27 client job is cancelled during the benchmark")
    result = process.end()
    fault.ends(result, 4, r"the client job \d+ \[CANCELLED\] .*")
    assert "the benchmark was cut short: " in result.stderr
    partial(project)


def test_client_service_is_killed_during_the_benchmark(project: Project, fault: Fault) -> None:
    process = project.start(project.recipe(n_clients=4, n_requests_per_client=5000))
    process.read_until("benchmark: 4 clients")
    wait_until(lambda: requests_done(project) > 20, PATIENCE_S, "the first requests")
    host = project.host_of(project.job_id("client"))
    servers = [pid for pid in project.cluster.pids(host) if b"gunicorn" in command_line(pid)]
    kill_all(servers)
    fault.happens("27 client service is killed during the benchmark")
    result = process.end()
    fault.ends(result, 4, r"the client job \d+ .* exit code 137.*")
    assert "the benchmark was cut short: " in result.stderr
    partial(project)


# --- a node goes ---------------------------------------------------------------------------------


@contextmanager
def no_cable(cluster: Cluster, host: str) -> Iterator[None]:
    """The host is out of reach; afterwards it is back and has nothing of before."""
    cluster.cut(host)
    try:
        yield
    finally:
        cluster.mend(host)

        def idle() -> bool:
            shown = cluster.on("login1", "sinfo", "-hn", host, "-o", "%T", "-p", "all").stdout
            return shown.strip() in ("idle", "mixed")

        wait_until(idle, 2 * PATIENCE_S, f"{host} to be back")


def site(project: Project, **values: Any) -> str:
    """The path of a profile of this cluster."""
    path = project.folder / "site.json"
    path.write_text(json.dumps({"name": "test", "scheduler": "slurm", **values}))
    return str(path)


def test_node_fails_during_the_start(project: Project, fault: Fault) -> None:
    profile = site(project, directives=["--no-requeue"])
    recipe = project.recipe()
    with project.ollama_is(SILENT):
        process = project.start(recipe, "--site", profile)
        process.read_until("ollama   job")
        wait_until(lambda: bool(project.cluster.listening("gpu1")), PATIENCE_S, "the start")
        with no_cable(project.cluster, "gpu1"):
            fault.happens("18 node fails during the start")
            fault.ends(process.end(), 4, r"ollama job \d+ \[NODE_FAIL\] .*")


def test_node_fails_during_the_start_of_a_job_that_slurm_requeues(
    project: Project, fault: Fault
) -> None:
    recipe = project.recipe()
    with project.ollama_is(SILENT):
        process = project.start(recipe)
        wait_until(lambda: bool(project.cluster.listening("gpu1")), PATIENCE_S, "the start")
        with no_cable(project.cluster, "gpu1"):
            fault.happens("18 node fails during the start, with requeue")
            line = process.read_until("was requeued")
            fault.seen(f"told: {line.splitlines()[-1][18:60]}")
        # the node learns only now that the run before the requeue is over
        wait_until(lambda: not project.cluster.listening("gpu1"), PATIENCE_S, "its end")
        process.send_signal(signal.SIGINT)
        assert process.end().returncode == 130


def test_node_fails_while_in_use(project: Project, fault: Fault) -> None:
    profile = site(project, directives=["--no-requeue"])
    result = project.orch(project.recipe(), "--no-benchmark", "--site", profile)
    assert result.returncode == 0, result.stderr
    client = project.record()["endpoints"]["client"]
    with no_cable(project.cluster, "gpu1"):
        fault.happens("18 node fails while in use")
        wait_until(
            lambda: state(project) in ("degraded", "failed"), 2 * PATIENCE_S, "--status to say so"
        )
        fault.seen(f"--status: {state(project)}")
        code, _ = answer(project, f"{client}/health")
        assert code == 503
        assert "NODE_FAIL" in project.orch("--status").stdout
        assert project.orch("--stop", "all").returncode == 0


# --- cancelled by hand ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "service"),
    [(OLLAMA, "ollama"), (OLLAMA, "client"), (LLAMACPP, "llamacpp")],
    ids=["ollama", "client", "llama.cpp"],
)
def test_cancelled_by_hand_while_starting(
    project: Project, fault: Fault, server: Server, service: str
) -> None:
    recipe = project.recipe(engine=server.engine)
    with project.stands_in(server, SILENT):
        process = project.start(recipe)
        process.read_until("client   serves at")
        project.cluster.on("login1", "scancel", project.job_id(service), check=True)
        fault.happens(f"20 scancel of the {service} job while starting")
        fault.ends(process.end(), 4, rf"the {service} job \d+ \[CANCELLED\] .*")


@each_engine
def test_cancelled_by_hand_during_the_benchmark(
    project: Project, fault: Fault, server: Server
) -> None:
    recipe = project.recipe(engine=server.engine, n_clients=4, n_requests_per_client=5000)
    process = project.start(recipe)
    process.read_until("benchmark: 4 clients")
    project.cluster.on("login1", "scancel", project.job_id(server.service), check=True)
    fault.happens(f"20 scancel of the {server.service} job during the benchmark")
    fault.ends(process.end(), 4, rf"the {server.service} job \d+ .*")


# --- signals to orch -----------------------------------------------------------------------------

STAGES = ("is submitted", "waits in the queue", "has begun", "serves at", "benchmark: 4 clients")


@contextmanager
def at_stage(
    project: Project, stage: str, requests_per_client: int = 5000
) -> Iterator[tuple[HostProcess, Callable[[], object]]]:
    """orch, which has just said `stage`, and what lets it come further than that."""
    with project.gated_ollama() as gate:
        filler = project.fill_gpus() if stage in STAGES[:2] else None
        if stage not in STAGES[2:4]:
            gate.touch()
        process = project.start(
            project.recipe(n_clients=4, n_requests_per_client=requests_per_client)
        )
        process.read_until(stage)

        def go_on() -> None:
            gate.touch()
            if filler:
                project.cluster.on("login1", "scancel", filler, check=True)

        yield process, go_on
    project.cluster.cancel_all()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
@pytest.mark.parametrize("stage", STAGES)
def test_orch_is_told_to_end(
    project: Project, fault: Fault, stage: str, signum: signal.Signals
) -> None:
    with at_stage(project, stage) as (process, _):
        process.send_signal(signum)
        fault.happens(f"23 {signum.name} when orch says '{stage}'")
        fault.ends(process.end(), 128 + signum, "our own jobs were cancelled")
        assert project.record()["state"] == "stopped"


@pytest.mark.parametrize("stage", STAGES)
def test_terminal_is_lost(project: Project, fault: Fault, stage: str) -> None:
    with at_stage(project, stage, requests_per_client=50) as (process, go_on):
        process.send_signal(signal.SIGHUP)
        fault.happens(f"23 SIGHUP when orch says '{stage}'")
        fault.ends(process.end(), 129, "the deployment goes on: pick it up with --attach")
        go_on()
        result = project.orch("--attach")
        project.assert_benchmarked(result)
        assert "200 of 200 requests succeeded" in result.stdout
        assert project.orch("--stop", "all").returncode == 0


# --- orch is killed ------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_orch_is_killed(project: Project, fault: Fault, stage: str) -> None:
    with at_stage(project, stage) as (process, _):
        os.kill(process.command_pid(), signal.SIGKILL)
        fault.happens(f"24 orch is killed when it says '{stage}'")
        process.end()
        live = ("submitting", "starting", "ready")
        (record,) = [r for r in project.records() if r["state"] in live]
        assert set(record["job_states"].values()) <= {"PENDING", "RUNNING", "CONFIGURING"}
        assert project.orch("--stop", record["id"]).returncode == 0
        fault.seen("--status shows it, --stop ends it")


# --- no accounting -------------------------------------------------------------------------------


@contextmanager
def forgetful(cluster: Cluster) -> Iterator[None]:
    """Slurm without accounting, which forgets a job two seconds after its end."""
    conf = RUN / "etc" / "slurm.conf"
    before = conf.read_text()
    lines = [line for line in before.splitlines() if not line.startswith("AccountingStorage")]
    after = "\n".join(lines).replace("MinJobAge=300", "MinJobAge=2") + "\n"
    restart(cluster, after, "none", "--no-accounting")
    try:
        yield
    finally:
        restart(cluster, before, "slurmdbd")


def restart(cluster: Cluster, conf: str, accounting: str, *options: str) -> None:
    """slurmctld again, with another configuration."""
    pid = cluster.daemon_pid("head", "slurmctld")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), PATIENCE_S, "the end of slurmctld")
    (RUN / "etc" / "slurm.conf").write_text(conf)
    (RUN / "accounting").write_text(accounting + "\n")
    cluster.up(*options)


DIES = "#!/bin/sh\necho 'the last words' >&2\nexit 7\n"


def test_verdict_from_the_exit_code_file_alone(project: Project, fault: Fault) -> None:
    """orch sleeps while the job ends and Slurm forgets it."""
    recipe = project.recipe()
    with forgetful(project.cluster), project.ollama_is(DIES):
        process = project.start(recipe)
        process.read_until("client   job")
        os.kill(process.command_pid(), signal.SIGSTOP)
        job_id = project.job_id("ollama")
        ask = ["squeue", "-hj", job_id, "--states=all"]
        asked = project.cluster.on
        wait_until(lambda: not asked("login1", *ask).stdout, PATIENCE_S, "Slurm to forget the job")
        process.send_signal(signal.SIGCONT)  # nsenter stopped with it, and wakes it up
        fault.happens("22 no accounting, and the job is gone from squeue")
        fault.ends(process.end(), 4, rf"the ollama job {job_id}.* ended with exit code 1: .*")
        project.assert_nothing_left()
