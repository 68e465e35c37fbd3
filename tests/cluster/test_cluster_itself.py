"""The test cluster is what it says: other tests may build on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import slurmcluster
from slurmcluster import ADDRESSES, PATIENCE_S, RUN, TESTCLUSTER, Cluster, traces, wait_until

WORK = slurmcluster.WORK / "hpcuser"

LISTENER = """
import socket
server = socket.create_server(("", 5151))
while True:
    peer, _ = server.accept()
    peer.sendall(b"hello from " + socket.gethostname().encode())
    peer.close()
"""
CALLER = f"""
import socket
with socket.create_connection(("{ADDRESSES["gpu1"]}", 5151), timeout=60) as link:
    print(link.recv(100).decode())
"""
INTERRUPTED = """
import os, time
try:
    print("ready in", os.getcwd())
    time.sleep(60)
except KeyboardInterrupt:
    print(os.environ["WORD"])
    raise SystemExit(3)
"""


def sbatch(cluster: Cluster, script: str, *options: str) -> str:
    """Submit a job as hpcuser; its output goes to job-ID.out in the work directory."""
    result = cluster.on(
        "login1", "sbatch", "--parsable", "-o", "job-%j.out", *options, input=script, check=True
    )
    return result.stdout.strip()


def test_login_host_shows_hosts_and_partitions(cluster: Cluster) -> None:
    shown = cluster.on("login1", "env", "-i", "/usr/bin/sinfo", "-h", "-N", "-o", "%N %R")
    pairs = {tuple(line.split()) for line in shown.stdout.splitlines()}
    assert {("cpu1", "cpu"), ("cpu2", "cpu"), ("gpu1", "gpu"), ("gpu1", "all")} <= pairs
    assert {partition for _, partition in pairs} == {
        *("cpu", "gpu", "all", "short", "down", "lowc", "lowq", "high")
    }


def test_each_host_has_its_own_name_address_and_processes(cluster: Cluster) -> None:
    for host, address in ADDRESSES.items():
        shown = cluster.on(host, "sh", "-c", "hostname; hostname -i; id -un; pwd", check=True)
        assert shown.stdout.split() == [host, address, "hpcuser", str(WORK)]
        assert cluster.pids(host) == []


def test_job_on_gpu_host_sees_its_gpu(cluster: Cluster) -> None:
    job = sbatch(
        cluster,
        "#!/bin/sh\nhostname; echo $CUDA_VISIBLE_DEVICES",
        "-W",
        "-p",
        "gpu",
        "--gres=gpu:1",
    )
    assert (WORK / f"job-{job}.out").read_text().split() == ["gpu1", "0"]


def test_job_on_cpu_host_reaches_listener_of_job_on_gpu_host(cluster: Cluster) -> None:
    server = sbatch(cluster, f"#!/usr/bin/python3\n{LISTENER}", "-p", "gpu")
    wait_until(lambda: 5151 in cluster.listening("gpu1"), PATIENCE_S, "the listener on gpu1")
    assert cluster.pids("gpu1") and cluster.listening("cpu1") == set()
    client = sbatch(cluster, f"#!/usr/bin/python3\n{CALLER}", "-W", "-w", "cpu1")
    assert (WORK / f"job-{client}.out").read_text() == "hello from gpu1\n"
    # and so does the machine itself
    subprocess.run([sys.executable, "-c", CALLER], check=True, timeout=PATIENCE_S)
    wait_until(lambda: cluster.queue() == [server], PATIENCE_S, "the end of the other job")
    cluster.cancel_all()
    assert cluster.pids("gpu1") == []


def test_accounting_knows_a_finished_job(cluster: Cluster) -> None:
    job = sbatch(cluster, "#!/bin/sh\nexit 7", "-A", "small")

    def known() -> bool:
        shown = cluster.on("login1", "sacct", "-XnP", "-j", job, "-o", "state,exitcode,account")
        return shown.stdout.split() == ["FAILED|7:0|small"]

    wait_until(known, PATIENCE_S, f"sacct to know the end of job {job}")


def test_requests_are_counted_by_user(cluster: Cluster) -> None:
    cluster.rpc_reset()
    assert cluster.rpc_count("hpcother") == 0
    for _ in range(4):
        cluster.on("login1", "squeue", "-u", "hpcother", user="hpcother", check=True)
    # slurmctld counts a request once it has answered it
    wait_until(lambda: cluster.rpc_count("hpcother") >= 12, PATIENCE_S, "the last one to count")
    assert cluster.rpc_count("hpcother") == 12


def test_memory_limit_of_a_job_is_enforced(cluster: Cluster) -> None:
    if (RUN / "memory").read_text().strip() != "cgroup":
        pytest.skip("memory limits need the memory controller of cgroup v1")
    job = sbatch(
        cluster, "#!/bin/sh\nx=$(head -c 200M /dev/zero | tr '\\0' a)\nsleep 60", "--mem=100"
    )
    state = ["scontrol", "show", "job", job]
    wait_until(
        lambda: "OUT_OF_MEMORY" in cluster.on("login1", *state).stdout,
        PATIENCE_S,
        f"the end of job {job}",
    )


def test_command_on_a_host_takes_signals_and_environment(cluster: Cluster) -> None:
    command = ["/usr/bin/python3", "-uc", INTERRUPTED]
    process = cluster.popen("cpu1", *command, env={"WORD": "bye"}, cwd="/tmp")
    assert process.stdout is not None and process.stdout.readline() == "ready in /tmp\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (out, process.returncode) == ("bye\n", 3)
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.on("cpu1", "sleep", "60", timeout=0.3)
    wait_until(lambda: cluster.pids("cpu1") == [], PATIENCE_S, "the end of the killed command")


def test_up_restarts_a_daemon_that_was_killed(cluster: Cluster) -> None:
    old = cluster.daemon_pid("cpu2", "slurmd")
    os.kill(old, signal.SIGKILL)
    cluster.up()
    assert cluster.daemon_pid("cpu2", "slurmd") != old
    assert cluster.on("login1", "srun", "-w", "cpu2", "hostname").stdout == "cpu2\n"


def test_unknown_host_is_one_sentence(cluster: Cluster) -> None:
    result = subprocess.run(
        [TESTCLUSTER, "on", "cpu9", "hpcuser", "true"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert (
        result.stderr
        == "testcluster: no host is named 'cpu9': there are head login1 cpu1 cpu2 gpu1\n"
    )


def test_down_leaves_no_trace_and_up_works_again(cluster: Cluster) -> None:
    """The session's cluster goes down and comes up: later tests find a new one."""
    was = set(cluster.namespaces)
    job = sbatch(cluster, "#!/bin/sh\nsleep 600", "-p", "gpu")
    wait_until(lambda: bool(cluster.pids("gpu1")), PATIENCE_S, f"job {job} to start")
    os.kill(cluster.daemon_pid("head", "slurmctld"), signal.SIGKILL)
    cluster.down()
    assert list(traces(was)) == []
    cluster.up()
    assert cluster.queue() == []
