"""Hand-overs on real Slurm while its controller, a node or the queue is not as it is to be."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import time

import pytest
from chains import (
    NEXT_S,
    Chain,
    all_gpus,
    assert_all_ok,
    assert_served_by,
    assert_stops,
    began,
    begin,
    paced,
)
from events import PATIENCE_S
from faults import Fault
from open_loop import Stream
from project import Project
from slurmcluster import Cluster, wait_until
from test_faults_use import answer, no_cable

from contracts.job_files import read_exit_status

#: Streams take less; those that are open when a job has to end without another are cut.
LONGEST_S = 5.0
#: An engine on one of two nodes, so that the next one may be on the other.
TWO_NODES = {"partition": "cpu", "client_partition": "gpu", "gpus": 0, "mem_gb": 2}


@contextmanager
def no_controller(cluster: Cluster) -> Iterator[None]:
    """slurmctld is away; afterwards it is back."""
    pid = cluster.daemon_pid("head", "slurmctld")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), PATIENCE_S, "the end of slurmctld")
    try:
        yield
    finally:
        cluster.up()


@pytest.mark.long
def test_slurmctld_is_restarted_in_an_overlap(project: Project, fault: Fault) -> None:
    with paced(project) as (engine, _):
        chain = begin(project, **engine)
        with chain.loop() as loop:
            chain.until("submitted")
            with no_controller(project.cluster):
                fault.happens("slurmctld is restarted in an overlap")
            chain.until("handed_over", job=2)
        assert_all_ok(loop.streams)
        fault.seen(f"two hand-overs, {len(loop.streams)} streams, none failed")
        assert_served_by(project, chain, 3)
        assert_stops(project)


@pytest.mark.long
def test_slurmctld_is_away_when_the_next_jobs_are_due(project: Project, fault: Fault) -> None:
    with paced(project) as (engine, _):
        chain = begin(project, **engine)
        due = chain.due()["submit_at"]
        with chain.loop() as loop:
            wait_until(lambda: time() > due - 5, NEXT_S, "the time shortly before")
            with no_controller(project.cluster):
                fault.happens("slurmctld is away when the next jobs are due")
                wait_until(lambda: time() > due + 10, NEXT_S, "sbatch to fail")
            chain.until("serving", job=2)
        assert_all_ok(loop.streams)
        fault.seen(f"a hand-over, {len(loop.streams)} streams, none failed")
        assert_served_by(project, chain, 2)
        assert_stops(project)


@contextmanager
def drained(cluster: Cluster, host: str) -> Iterator[None]:
    """No further job begins on the host."""
    node = ["scontrol", "update", f"nodename={host}"]
    cluster.on("head", *node, "state=drain", "reason=test", user="root", check=True)
    try:
        yield
    finally:
        cluster.on("head", *node, "state=resume", user="root", check=True)


@pytest.mark.long
@pytest.mark.parametrize("whose", ["old", "next"])
def test_a_node_is_killed_in_an_overlap(project: Project, fault: Fault, whose: str) -> None:
    """The old engine's, or the one on which the next begins: what is lost is lost in one piece."""
    with paced(project) as (engine, hold), ExitStack() as stack:
        chain = begin(project, **engine, **TWO_NODES, **{"time": "4:00"})
        host = project.host_of(chain.first["vllm"])
        loop = stack.enter_context(chain.loop())
        with drained(project.cluster, host):
            hold.touch()
            chain.until("submitted")
            wait_until(lambda: began(project, chain, 2), NEXT_S, "the next engine to begin")
        killed = host if whose == "old" else project.host_of(chain.jobs[1]["vllm"])
        with no_cable(project.cluster, killed):
            fault.happens(f"the node of the {whose} engine is killed in an overlap")
            hold.unlink()
            chain.until("serving", job=2)
            healed = time()
        wait_until(lambda: time() > healed + 10, PATIENCE_S, "some more streams")
        streams = loop.stop()
        assert_all_ok([stream for stream in streams if stream.due > healed])
        fault.seen(f"{lost(streams)}, then as ever")
        if whose == "old":
            first = chain.first["vllm"]
            wait_until(lambda: first not in project.cluster.queue(), NEXT_S, "its end")
            end = read_exit_status(project.output, first)
            assert end and (end.exit_code, end.reason) == (0, "its successor serves"), end
        clean(project, chain, killed)
        assert_stops(project)


def clean(project: Project, chain: Chain, host: str) -> None:
    """Begin a job on a node that was given up. When it came back, Slurm ended what ran there by
    SIGKILL, so that this left its folder; the next job of its user there removes that."""
    script = str(project.output / "scripts" / f"{chain.id}.vllm.sh")
    where = ["-p", "all", "-w", host, "-A", "research", "-o", "/dev/null"]
    project.cluster.on("login1", "sbatch", "-W", *where, script, "--prepare", check=True)


def lost(streams: list[Stream]) -> str:
    """How many streams were lost, and in how long a time."""
    wrong = [stream for stream in streams if not stream.ok]
    if not wrong:
        return f"{len(streams)} streams, none failed"
    cut = sum(stream.cut for stream in wrong)
    dark = max(s.due for s in wrong) - min(s.due for s in wrong)
    return f"{len(wrong)} of {len(streams)} streams lost, {cut} cut, in {dark:.0f} s"


@pytest.mark.long
def test_the_next_job_stays_pending(project: Project, fault: Fault) -> None:
    """The gap is told before it comes, and closed once there is a GPU."""
    with paced(project) as (engine, _):
        chain = begin(project, **engine)
        with chain.loop() as loop:
            filler = all_gpus(project)
            fault.happens("the next engine's job stays pending")
            told = chain.wait(lambda told: told["dark_s"] is not None, "the gap to be told")
            assert told["job"] == 1 and told["phase"] in ("submitted", "waiting")
            assert_dark_is_told(project, chain)
            wait_until(lambda: not chain.find(), NEXT_S, "the old door's end")
            dark = time() - LONGEST_S
            assert_all_ok([s for s in loop.streams if s.end and s.due < dark])
            wait_until(
                lambda: project.records()[-1]["state"] == "starting", NEXT_S, "the old jobs' end"
            )
            project.cluster.on("login1", "scancel", filler, check=True)
            chain.until("serving", job=2)
            healed = time()
            wait_until(lambda: time() > healed + 10, PATIENCE_S, "some more streams")
        assert_all_ok([stream for stream in loop.streams if stream.due > healed])
        fault.seen(lost(loop.streams))
        assert_served_by(project, chain, 2)
        assert_stops(project)


def assert_dark_is_told(project: Project, chain: Chain) -> None:
    """By /health and by --status."""
    status, health = answer(project, f"{chain.find()}/health")
    assert status == 200 and health["handover"]["dark_s"] > 0, health
    assert "; dark for " in project.orch("--status", chain.id).stdout
