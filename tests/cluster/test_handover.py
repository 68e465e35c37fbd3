"""A deployment outlives its jobs on real Slurm: each hands over to the next, and --stop ends all of
them at any moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import time

import pytest
from chains import (
    CHAIN,
    NEXT_S,
    PACE_S,
    Chain,
    Job,
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
from project import Project
from slurmcluster import wait_until


def test_the_next_job_takes_over_and_nobody_notices(project: Project) -> None:
    """Real Ollama; who knows the old address alone is answered, too, and told the new one."""
    chain = begin(project)
    with chain.loop(rate=2) as loop:
        old = loop.url
        chain.until("handed_over")
        wait_until(lambda: loop.url != old, PATIENCE_S, "the client to be told of the new door")
    assert_all_ok(loop.streams)
    assert loop.url == chain.find()
    assert_served_by(project, chain, 2)
    assert_stops(project)


@pytest.mark.long
def test_orch_is_killed_right_after_the_start(project: Project, fault: Fault) -> None:
    process = project.start(project.recipe(**CHAIN), "--no-benchmark")
    process.read_until("client   job")
    os.kill(process.command_pid(), signal.SIGKILL)
    fault.happens("orch is killed right after the start of a chain")
    process.end()
    wait_until(lambda: project.records()[-1]["state"] == "ready", PATIENCE_S, "it to be ready")
    chain = Chain(project)
    with chain.loop() as loop:
        chain.until("serving", job=3)
    assert_all_ok(loop.streams)
    fault.seen(f"two hand-overs, {len(loop.streams)} streams, none failed")
    assert_served_by(project, chain, 3)
    assert_stops(project)


#: Seconds between the end of long streams and that of the job which answers them.
SPARE_S = 10


@pytest.mark.long
@pytest.mark.parametrize(("time_limit", "long_s"), [("2:00", 60), ("4:00", 90)])
def test_streams_longer_than_the_overlap_finish(
    project: Project, fault: Fault, time_limit: str, long_s: int
) -> None:
    """They end shortly before the old job has to, which waits for none beyond its time limit."""
    with paced(project) as (engine, _):
        chain = begin(project, **engine, **{"time": time_limit})
        begins = chain.due()["ends"] - long_s - SPARE_S
        with chain.loop() as loop:
            wait_until(lambda: time() > begins, NEXT_S, "the time of long streams")
            fault.happens(
                f"streams of {long_s} s begin {SPARE_S + long_s} s before the end of a job"
            )
            before = [loop.ask(round(long_s / PACE_S)) for _ in range(5)]
            chain.until("serving", job=2)
            wait_until(lambda: all(s.end for s in before), NEXT_S, "the end of long streams")
        assert_all_ok(loop.streams)
        old, new = (one["vllm"] for one in chain.jobs[:2])  # the third ones may be submitted
        wait_until(lambda: accounted(chain, old).end > 0, PATIENCE_S, "the old engine's end")
        overlap = accounted(chain, old).end - accounted(chain, new).begin
        shortest = min(s.end - s.first for s in before)
        assert shortest > max(overlap, 0.9 * long_s)
        fault.seen(f"an overlap of {overlap:.0f} s, {len(loop.streams)} streams, none failed")
        assert_stops(project)


def accounted(chain: Chain, job_id: str) -> Job:
    (job,) = [job for job in chain.accounted() if job.id == job_id]
    return job


# --- --stop at any moment ------------------------------------------------------------------------


def pending(project: Project, chain: Chain, hold: Path) -> str:
    """The next jobs wait in the queue, behind another one."""
    filler = all_gpus(project)
    chain.until("submitted")
    return filler


def loading(project: Project, chain: Chain, hold: Path) -> None:
    """The next engine has begun, and does not answer yet."""
    hold.touch()
    wait_until(lambda: began(project, chain, 2), NEXT_S, "the next engine to begin")


def handing_over(project: Project, chain: Chain, hold: Path) -> None:
    """The next one serves, and the old one finishes what is open."""
    due = chain.due()["submit_at"]
    wait_until(lambda: time() > due - 5, NEXT_S, "the time before")
    chain.loop().ask(600)
    chain.until("handing_over")


MOMENTS: dict[str, Callable[[Project, Chain, Path], object]] = {
    "it serves": lambda project, chain, hold: chain.until("serving"),
    "the next jobs are submitted": lambda project, chain, hold: chain.until("submitted"),
    "the next jobs are pending": pending,
    "the next engine loads": loading,
    "it hands over": handing_over,
    "it has handed over": lambda project, chain, hold: chain.until("handed_over"),
    "the next jobs serve": lambda project, chain, hold: chain.until("serving", job=2),
}


@pytest.mark.long
@pytest.mark.parametrize("moment", MOMENTS)
def test_stop_leaves_no_job(project: Project, fault: Fault, moment: str) -> None:
    with paced(project) as (engine, hold):
        chain = begin(project, **engine)
        filler = MOMENTS[moment](project, chain, hold)
        fault.happens(f"--stop when {moment}")
        assert_stops(project, filler)
        fault.seen(f"{len(chain.jobs)} jobs of each service, none is left")


@pytest.mark.long
def test_stop_leaves_no_job_when_the_first_ones_are_pending(project: Project, fault: Fault) -> None:
    filler = project.fill_gpus()
    begun = project.orch(project.recipe(**CHAIN), "--no-benchmark", "--detach")
    assert begun.returncode == 0, begun.stderr
    fault.happens("--stop when the first jobs are pending")
    assert_stops(project, filler)
    fault.seen("none is left")
