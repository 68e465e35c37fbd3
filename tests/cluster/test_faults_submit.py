"""Faults before any service runs: refused, no room, waiting for ever, many at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import Fault
from project import Project
from slurmcluster import PATIENCE_S, SMALL, HostProcess, wait_until

REFUSALS = (
    (
        "1 partition does not exist",
        {"partition": "nosuch"},
        r"name specified; there are: cpu, gpu, .*",
    ),
    ("2 account is refused", {"account": "nosuch"}, "Invalid account or account/partition"),
    ("2 QOS is refused", {"qos": "nosuch"}, "Invalid qos specification"),
    ("2 QOS allows one job of two", {"qos": "onesubmit"}, "the client job: .*QOS policy"),
    ("3 more memory than nodes have", {"mem_gb": 900}, "Requested node configuration is not"),
    ("3 more GPUs than nodes have", {"gpus": 5}, "Requested node configuration is not"),
    (
        "3 more nodes than the partition has",
        {"partition": "cpu", "gpus": 0, "nodes": 3},
        r"never start the ollama job \d+: .*that many nodes .*\(PartitionNodeLimit\); change",
    ),
    (
        "3 more time than the QOS has",
        {"partition": "cpu", "gpus": 0, "qos": "shortq", "time": "20:00"},
        r"never start the ollama job \d+: .*\(QOSMaxWallDurationPerJobLimit\); lower",
    ),
)


@pytest.mark.parametrize(("name", "changes", "words"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_refused_with_slurms_words(
    project: Project, fault: Fault, name: str, changes: dict[str, str], words: str
) -> None:
    recipe = project.recipe(**changes)
    fault.happens(name)
    fault.ends(project.orch(recipe), 3, words)
    assert project.record()["state"] == "failed"


# --- room to write -------------------------------------------------------------------------------


def test_output_directory_is_not_writable(project: Project, fault: Fault) -> None:
    recipe = project.recipe()
    fault.happens("5 output directory is not writable")
    result = project.orch(recipe, "--output-dir", "/usr/output")
    fault.ends(result, 2, "cannot write into the output directory /usr/output: Permission denied")


@pytest.fixture
def small(project: Project) -> Iterator[Path]:
    """An output directory on a file system of 24 MB, with a deployment's files in it."""
    output = SMALL / "output"
    yield output
    (SMALL / "filler").unlink(missing_ok=True)
    project.orch("--stop", "all", "--output-dir", str(output))
    project.cluster.on("login1", "rm", "-rf", str(output))


def fill(path: Path) -> None:
    """Take what room there is."""
    with pytest.raises(OSError, match="No space left"), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def torn(output: Path) -> list[Path]:
    """Files that are empty, half written or temporary where whole ones belong."""
    found = [p for p in output.rglob(".*") if p.is_file() and p.suffix != ".lock"]
    for path in output.glob("deployments/*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            found.append(path)
    return found + [p for p in output.glob("*_ip_*") if not p.read_text().endswith("\n")]


def test_disk_is_full_when_the_record_is_written(
    project: Project, fault: Fault, small: Path
) -> None:
    recipe = project.recipe()
    assert project.orch(recipe, "--dry-run", "--output-dir", str(small)).returncode == 0
    fill(SMALL / "filler")
    fault.happens("5 disk is full when the record is written")
    result = project.orch(recipe, "--output-dir", str(small))
    fault.ends(result, 4, rf"cannot write {small}/deployments/.*: No space left on device")
    assert torn(small) == []
    project.assert_nothing_left()


def test_disk_is_full_when_the_address_is_written(
    project: Project, fault: Fault, small: Path
) -> None:
    recipe = project.recipe()
    at = ("--output-dir", str(small))
    assert project.orch(recipe, *at, "--no-benchmark").returncode == 0, "the model is there now"
    assert project.orch("--stop", "all", *at).returncode == 0
    shim = f"#!/bin/sh\n[ $1 != serve ] || cat /dev/zero >{SMALL}/filler\nexec $0.real $*\n"
    with project.ollama_is(shim):
        fault.happens("5 disk is full when the address is written")
        result = project.orch(recipe, *at)
    fault.ends(result, 4, rf"cannot write {small}/\S+: ?.*")
    # First of all the end of the jobs: orch, which cannot note anything, does not wait for it, and
    # while they clean up their files come and go.
    project.assert_nothing_left()
    assert torn(small) == []


# --- in the queue --------------------------------------------------------------------------------


def waiting(project: Project, *options: str) -> HostProcess:
    """orch with a deployment that is in the queue behind another job."""
    process = project.start(project.recipe(), *options)
    process.read_until("waits in the queue")
    return process


def test_pending_for_ever(project: Project, fault: Fault) -> None:
    filler = project.fill_gpus()
    # Slurm is asked after a second, and once more after five, if it had no reason yet.
    fault.happens("8 pending for ever, --queue-timeout 10")
    result = project.orch(project.recipe(), "--queue-timeout", "10")
    fault.ends(result, 5, r"in the queue after 10 s \(ollama job \d+: waits .*Resources")
    wait_until(lambda: project.cluster.queue() == [filler], PATIENCE_S, "the end of ours")
    project.cluster.cancel_all()


def test_held_by_its_user_is_said_at_once(project: Project, fault: Fault) -> None:
    filler = project.fill_gpus()
    process = project.start(project.recipe())
    process.read_until("is submitted")
    project.cluster.on("login1", "scontrol", "hold", project.job_id("ollama"), check=True)
    fault.happens("9 held by its user")
    line = process.read_until("held").splitlines()[-1]
    fault.seen(f"told: {line.partition('waits')[2][:46].strip()}")
    process.send_signal(2)
    assert process.end().returncode == 130
    project.cluster.on("login1", "scancel", filler, check=True)


def test_cancelled_by_somebody_else_while_pending(project: Project, fault: Fault) -> None:
    filler = project.fill_gpus()
    process = waiting(project)
    job_id = project.job_id("ollama")
    project.cluster.on("head", "scancel", job_id, user="root", check=True)
    fault.happens("9 cancelled by somebody else while pending")
    # By the client's job, which begins now, or by Slurm, if orch asks it before that has ended.
    fault.ends(process.end(), 4, rf"job {job_id} (is CANCELLED|\[CANCELLED\] was cancelled)")
    wait_until(lambda: project.cluster.queue() == [filler], PATIENCE_S, "the end of ours")
    project.cluster.cancel_all()


# --- many ----------------------------------------------------------------------------------------


def test_twenty_deployments_at_once(project: Project, fault: Fault) -> None:
    filler = project.fill_gpus()
    recipe = project.recipe()
    before = {record["id"] for record in project.records()}
    fault.happens("29 twenty deployments at once")
    runs = [project.start(recipe, "--detach") for _ in range(20)]
    ends = [run.end() for run in runs]
    assert [end.returncode for end in ends] == [0] * 20, ends
    records = [record for record in project.records() if record["id"] not in before]
    fault.seen(f"{len(records)} distinct records")
    assert len(records) == len({record["id"] for record in records}) == 20
    jobs = Counter(job["id"] for record in records for job in record["jobs"].values())
    assert sorted([*jobs, filler]) == sorted(project.cluster.queue()), "each job is in a record"
    assert len(jobs) == 40 and set(jobs.values()) == {1}
    assert project.orch("--stop", "all").returncode == 0
    wait_until(lambda: project.cluster.queue() == [filler], PATIENCE_S, "ours to be gone")
    project.cluster.cancel_all()
