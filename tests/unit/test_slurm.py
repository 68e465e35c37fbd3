"""What Slurm's commands print, and what we make of it. Texts are of Slurm 22.05."""

import os
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest
from events import PATIENCE_S, until

from contracts.errors import SchedulerError, SchedulerUnavailable
from contracts.jobs.states import JobStatus, Verdict
from hpc.scheduler.interface import Submission
from hpc.scheduler.slurm import calls, commands
from hpc.scheduler.slurm.answers import parse_sacct, parse_sbatch, parse_sinfo, parse_squeue
from hpc.scheduler.slurm.commands import SlurmScheduler
from hpc.scheduler.slurm.environment import clean_environment

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


def test_jobs_are_read_from_squeue():
    listing = parse_squeue(
        "12|RUNNING|gpu1|2026-11-24T03:00:00|9:58|demo.ollama|None\n"
        "13|PENDING||2026-11-24T05:00:00|1-00:00:00|demo.client|Resources\n"
        "14|PENDING||N/A|UNLIMITED|x|ReqNodeNotAvail, UnavailableNodes:cpu1\n"
    )
    jobs = listing.jobs
    start = datetime(2026, 11, 24, 3).timestamp()
    assert jobs["12"] == JobStatus("RUNNING", "", "gpu1", start, 598, "demo.ollama")
    assert jobs["13"].start == start + 7200
    assert jobs["14"] == JobStatus("PENDING", "ReqNodeNotAvail, UnavailableNodes:cpu1", name="x")
    assert listing.other == []


def test_jobs_are_read_from_sacct():
    jobs = parse_sacct(
        "14|CANCELLED by 0|None assigned|demo.ollama\n"
        "15|TIMEOUT|cpu[1-2]|a|b\n"
        "16.batch|FAILED|x|y\n"
    )
    assert jobs == {
        "14": JobStatus("CANCELLED", "by user root", name="demo.ollama"),
        "15": JobStatus("TIMEOUT", "", "cpu[1-2]", name="a|b"),
    }
    assert parse_sacct("9|CANCELLED by 999999999|a")["9"].reason == "by uid 999999999"


@pytest.mark.parametrize(
    "garbage", ["slurm_load_jobs error", "|||", "x|RUNNING|a|b||||", "12||a||||", "12|RUNNING"]
)
def test_garbage_is_no_job(garbage):
    assert (parse_squeue(garbage).jobs, parse_squeue(garbage).other) == ({}, [garbage])
    assert parse_sacct(garbage) == {}


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


class Shims:
    """Stand-ins for Slurm's commands: shell scripts on PATH, and what they were called with."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        for name in ("sbatch", "squeue", "scancel", "sinfo"):
            self.make(name, "exit 0")

    def make(self, name, script):
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.folder}/calls\n{script}\n')
        path.chmod(0o755)

    def calls(self, name=""):
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(name)]


DEAD = "echo 'sbatch: error: Batch job submission failed: Unable to contact slurm controller \
(connect failure)' >&2; exit 1"
JOB = Submission("demo-1.ollama", "ollama", Path("job.sh"), "out", "err", 600)
LINE = "7|PENDING||N/A|10:00|demo-1.ollama|None"


@pytest.fixture
def shims(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "SUBMIT_PAUSE_S", 0.01)
    return Shims(tmp_path, monkeypatch)


def test_silent_controller_is_asked_three_times_and_then_there_is_one_sentence(shims):
    shims.make("sbatch", DEAD)
    with pytest.raises(
        SchedulerUnavailable, match=r"ollama job could not be .*tries: 3.*connect failure.*scontrol"
    ) as error:
        SlurmScheduler().submit(JOB)
    assert error.value.exit_code == 3
    assert len(shims.calls("sbatch")) == 3
    looks = shims.calls("squeue")
    assert len(looks) == 2, "before each new try"
    assert all("--name=demo-1.ollama" in look and f"--user={os.getuid()}" in look for look in looks)


def test_job_that_a_hung_controller_took_is_not_submitted_twice(shims):
    shims.make(
        "sbatch", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1"
    )
    shims.make("squeue", f"echo '{LINE}'")
    assert SlurmScheduler().submit(JOB) == "7"
    assert len(shims.calls("sbatch")) == 1


@pytest.mark.parametrize(
    ("said", "job_id"),
    [
        ("7", "7"),
        ("Your job goes to the default QOS\n7;cluster", "7;cluster"),
        ("7;cluster\nNote: 93% of your hours are used.\n", "7;cluster"),
        ("Submitted batch job 7 on cluster c-1.x", "7;c-1.x"),
        ("Submitted batch job 7", "7"),
        ("Submitted, thank you", None),
        ("2026\n7", None),
    ],
)
def test_job_id_is_found_among_what_a_wrapper_says(said, job_id):
    assert parse_sbatch(said) == job_id


def test_job_whose_id_is_not_said_is_found_by_its_name(shims):
    shims.make("sbatch", "echo 'Submitted, thank you'")
    shims.make("squeue", f"echo '{LINE}'")
    assert SlurmScheduler().submit(JOB) == "7"
    assert len(shims.calls("sbatch")) == 1


def test_nothing_is_submitted_again_without_a_look(shims):
    shims.make("sbatch", DEAD)
    shims.make("squeue", DEAD)
    with pytest.raises(SchedulerUnavailable):
        SlurmScheduler().submit(JOB)
    assert len(shims.calls("sbatch")) == 1


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("Invalid partition name specified", "there are: cpu, gpu, all, short"),
        ("Invalid account or account/partition combination specified", "sacctmgr show assoc"),
        ("Invalid qos specification", "sacctmgr show assoc user=$USER"),
        ("Requested node configuration is not available", ""),
    ],
)
def test_refusal_is_final_and_names_what_to_look_at(shims, words, remedy):
    failed = f"sbatch: error: Batch job submission failed: {words}"
    shims.make("sbatch", f"printf '%s\n' '{failed}' 'sbatch: see our web pages' >&2; exit 1")
    shims.make("sinfo", f"cat <<'E'\n{SINFO}E")
    with pytest.raises(SchedulerError) as error:
        SlurmScheduler().submit(JOB)
    assert error.value.message.startswith(f"Slurm refused the ollama job: {words}")
    assert remedy in error.value.message
    assert len(shims.calls("sbatch")) == 1
    assert not isinstance(error.value, SchedulerUnavailable)


@pytest.mark.parametrize("output", ["echo garbage", "echo '7|PENDI'", "printf '7|PENDING||\n'"])
def test_garbage_from_squeue_is_no_answer(shims, output):
    shims.make("squeue", output)
    with pytest.raises(SchedulerUnavailable, match="no list of jobs"):
        SlurmScheduler().statuses(["7"])


def test_line_that_is_no_job_does_not_matter_where_all_jobs_are_there(shims):
    shims.make("squeue", f"echo welcome; echo '{LINE}'")
    assert SlurmScheduler().statuses(["7"])["7"].state == "PENDING"


def test_forgotten_job_is_gone_and_a_silent_controller_is_not(shims):
    shims.make("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert SlurmScheduler().statuses(["7"]) == {}
    shims.make("squeue", DEAD)
    with pytest.raises(SchedulerUnavailable, match="Unable to contact"):
        SlurmScheduler().statuses(["7"])


def test_cancelling_does_not_wait_for_a_slow_squeue_nor_overlap_with_it(shims):
    shims.make("squeue", "sleep 600")
    scheduler = SlurmScheduler()

    def ask():
        with pytest.raises(SchedulerUnavailable):
            scheduler.statuses(["7"])

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: shims.calls("squeue"))
    begin = time.monotonic()
    scheduler.cancel(["7"])
    assert time.monotonic() - begin < calls.COMMAND_TIMEOUT_S / 2
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert shims.calls()[-1] == "scancel 7"
