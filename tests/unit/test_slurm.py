"""What Slurm's commands print, and what we make of it. Texts are of Slurm 22.05."""

import pytest

from hpc.errors import SchedulerError
from hpc.jobstates import JobStatus, Verdict
from hpc.scheduler.slurm import SlurmScheduler, clean_environment, parse_jobs, parse_sinfo

SINFO = """cpu*|up|1-00:00:00|32|(null)
gpu|up|1-00:00:00|32|gpu:4
all|up|infinite|32|(null)
all|up|infinite|16+|gpu:4
short|up|5:00|32|(null)
down|down|infinite|32|(null)
"""


def test_partitions_are_read_from_sinfo():
    found = {p.name: p for p in parse_sinfo(SINFO)}
    assert list(found) == ["cpu", "gpu", "all", "short"], "one that is down cannot be used"
    assert found["cpu"].default
    assert not found["cpu"].has_gpus
    assert found["gpu"].has_gpus
    assert not found["gpu"].has_nodes_without_gpus
    assert found["all"].has_gpus
    assert found["all"].has_nodes_without_gpus
    assert found["all"].cpus_per_node == 16
    assert found["short"].max_seconds == 300


def test_jobs_are_read_from_squeue_and_sacct():
    jobs = parse_jobs(
        "12|RUNNING|gpu1|None\n13|PENDING||Resources\n"
        "14|CANCELLED by 1001|None assigned\n15|TIMEOUT|cpu[1-2]\n"
    )
    assert jobs["12"] == JobStatus("RUNNING", "", "gpu1")
    assert jobs["13"] == JobStatus("PENDING", "Resources", "")
    assert jobs["14"].state == "CANCELLED"
    assert jobs["15"].over


@pytest.mark.parametrize("garbage", ["", "slurm_load_jobs error", "|||", "x|RUNNING|a|b", "12||a"])
def test_garbage_is_no_job(garbage):
    assert parse_jobs(garbage) == {}


def test_state_that_nobody_heard_of_is_neither_good_nor_bad():
    assert JobStatus("TELEPORTING").verdict is Verdict.UNKNOWN
    assert not JobStatus("TELEPORTING").over


def test_variables_that_change_sbatch_do_not_leak(monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "wrong")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SLURM_CONF", "/etc/here.conf")
    monkeypatch.setenv("HARMLESS", "x")
    environment = clean_environment()
    assert not {"SBATCH_PARTITION", "SLURM_JOB_ID", "SQUEUE_FORMAT"} & set(environment)
    assert environment["SLURM_CONF"] == "/etc/here.conf"
    assert environment["HARMLESS"] == "x"


def test_without_sbatch_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match=r"no sbatch on PATH.*login node"):
        SlurmScheduler()
