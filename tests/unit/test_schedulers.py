"""Schedulers: one that is registered is one of them, and what is one's own is on its shelf."""

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from events import until

from contracts.jobs.states import JobStatus, Outlook, Reason
from hpc.deployments.records import load_records
from hpc.scheduler import registry
from hpc.scheduler.interface import Partition
from hpc.scheduler.kind import Kind
from hpc.scheduler.local import runner

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "lib"

# --- a further scheduler, of which no file of the product knows ----------------------------------

#: What its jobs know of themselves: the scheduler sets $STUB_ID.
STUB_LIBRARY = """
JOB_ID=${STUB_ID:-manual-$$} FULL_JOB_ID=$JOB_ID JOB_END= SUBMIT_HOST= RANK= JOB_GPUS=
granted_cores() { echo 3; }
run_on_nodes() { :; }
is_job_id() { [[ $1 == stub* ]]; }
state_of_job() { echo RUNNING; }
job_has_ended() { return 1; }
"""


class Stub:
    """Takes every job, and starts none by itself."""

    title = "Stub"

    def __init__(self):
        self.jobs = {}
        self.cancelled = []

    def partitions(self):
        return [
            Partition("slow", default=True, has_nodes_without_gpus=True, cpus_per_node=8),
            Partition("fast", has_gpus=True, cpus_per_node=6),
        ]

    def submit(self, job):
        job_id = f"stub{len(self.jobs) + 1}"
        self.jobs[job_id] = job
        return job_id

    def statuses(self, job_ids):
        state = {j: "CANCELLED" if j in self.cancelled else "PENDING" for j in job_ids}
        return {j: JobStatus(state[j], "tired", name=self.jobs[j].name) for j in state}

    def mine(self, name=""):
        return self.statuses(self.jobs)

    def explain(self, reason, job_id):
        return Reason(Outlook.NEVER, f"it is {reason}", f"wake {job_id}")

    def cancelled_by(self, job_id):
        return ""

    def cancel(self, job_ids):
        self.cancelled += job_ids

    def close(self):
        pass


class StubKind(Kind):
    title = Stub.title

    def __init__(self, library):
        self.library = library
        self.scheduler = Stub()

    def open(self, output, known):
        return self.scheduler

    def header(self, job, asked, after):
        return [
            f"#STUB {job.name}: {asked.nodes} x {asked.cores} cores, {asked.gpus} GPUs in "
            f"{asked.partition} for {asked.time}, as {asked.account}, after {list(after)}"
        ]

    def gave(self, number):
        return number.startswith("stub")


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A stub that is registered, with a site; returns its kind."""
    (tmp_path / "stub.sh").write_text(STUB_LIBRARY)
    (tmp_path / "site.json").write_text(json.dumps({"name": "s", "scheduler": "stub"}))
    kind = StubKind(tmp_path / "stub.sh")
    monkeypatch.setitem(registry.SCHEDULERS, "stub", lambda: kind)
    return kind


@pytest.fixture
def deploy(orch, recipe_data, tmp_path):
    """orch.py with a recipe at the stub's site."""
    del recipe_data["job"]["infrastructure"]["partition"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    where = ("--site", tmp_path / "site.json", "--output-dir", tmp_path / "output")
    return lambda *options: orch(tmp_path / "recipe.json", *where, "--no-monitoring", *options)


def script(tmp_path, service):
    (path,) = (tmp_path / "output" / "scripts").glob(f"*.{service}.sh")
    return path


def test_it_plans_and_renders(stub, deploy, tmp_path):
    code, out, _ = deploy("--dry-run")
    assert code == 0
    assert re.search(r"partition +fast +the scheduler: the first one with GPUs", out)
    assert re.search(r"client_partition +slow +the scheduler: a partition without GPUs", out)
    lines = script(tmp_path, "ollama").read_text().splitlines()
    assert lines[1].endswith("1 x 6 cores, 1 GPUs in fast for 00:10:00, as research, after []")
    assert f". {stub.library} || exit" in lines
    assert "SBATCH" not in " ".join(lines)
    assert stub.scheduler.jobs == {}


def test_it_is_given_the_jobs_and_asked_about_them(stub, deploy, orch, tmp_path):
    assert deploy("--detach")[0] == 0
    record = load_records(tmp_path / "output")[0]
    assert record.jobs == {"ollama": "stub1", "client": "stub2"}
    assert [job.service for job in stub.scheduler.jobs.values()] == ["ollama", "client"]
    assert "after ['stub1']" in script(tmp_path, "client").read_text()
    code, out, _ = orch("--status", "--output-dir", tmp_path / "output")
    assert (code, "ollama stub1 PENDING, client stub2 PENDING" in out) == (0, True)


def test_one_that_will_never_start_a_job_says_so_in_its_own_words(stub, deploy):
    code, _, err = deploy()
    assert code == 3
    assert "Stub will never start the ollama job stub1: it is tired (tired); wake stub1." in err
    assert stub.scheduler.cancelled == ["stub1", "stub2"]


def test_its_jobs_know_themselves(stub, deploy, tmp_path):
    """The script is run as the scheduler would run it, with an ollama that fails."""
    deploy("--dry-run")
    ollama = tmp_path / "bin" / "ollama"
    ollama.parent.mkdir()
    ollama.write_text("#!/bin/sh\nexit 1\n")
    ollama.chmod(0o755)
    done = subprocess.run(
        ["bash", script(tmp_path, "ollama")],
        env={"PATH": f"{ollama.parent}:/usr/bin:/bin", "STUB_ID": "stub7"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "job stub7 runs" in done.stdout
    assert "ollama stopped while starting" in (tmp_path / "output/logs/stub7.rc").read_text()


def test_a_name_that_is_not_registered_is_refused_with_those_that_are(deploy, tmp_path):
    (tmp_path / "site.json").write_text(json.dumps({"name": "s", "scheduler": "stub"}))
    code, _, err = deploy("--dry-run")
    assert (code, "scheduler = 'stub': must be 'slurm' or 'local'" in err) == (2, True)


# --- what jobs know of themselves and of others --------------------------------------------------

#: As the head of lib/service.sh says it.
CONTRACT = (LIB / "service.sh").read_text().partition("That sets\n")[2].partition("\n\n")[0]
VARIABLES = re.findall(r"^#   ([A-Z_]+) ", CONTRACT, re.MULTILINE)
FUNCTIONS = re.findall(r"^#   ([a-z_]+) ", CONTRACT, re.MULTILINE)


def bash(name, commands, **environment):
    """What a script says in a job of a scheduler."""
    done = subprocess.run(
        ["bash", "-uc", f". {LIB}/service.sh; . {LIB}/scheduler/{name}.sh; {commands}"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("name", registry.SCHEDULERS)
def test_every_scheduler_has_a_library_with_what_jobs_ask_it_for(name):
    assert registry.kind_of(name).library == LIB / "scheduler" / f"{name}.sh"
    assert len(VARIABLES) >= 5 and len(FUNCTIONS) >= 5
    assert bash(name, f"declare -F {' '.join(FUNCTIONS)}") == FUNCTIONS
    bash(name, f'printf %s "{"".join(f"${variable}" for variable in VARIABLES)}"')


def test_a_job_of_slurms_is_what_slurm_says():
    shown = 'echo "$JOB_ID $FULL_JOB_ID $JOB_END $SUBMIT_HOST $RANK"; granted_cores'
    told = bash(
        "slurm", shown, SLURM_JOB_ID="7", SLURM_CLUSTER_NAME="north", SLURM_JOB_END_TIME="1900",
        SLURM_SUBMIT_HOST="login1", SLURM_PROCID="2", SLURM_CPUS_PER_TASK="4", ORCH_JOB_ID="other",
    )  # fmt: skip
    assert told == ["7", "7;north", "1900", "login1", "2", "4"]
    assert bash("slurm", "echo $JOB_ID", ORCH_JOB_ID="prepare-x") == ["prepare-x"]


def test_a_job_that_ends_without_a_word_is_asked_for_once_a_minute_of_silence(tmp_path):
    """SECONDS is set as the clock would be."""
    answers = tmp_path / "answers"
    commands = f"""
    job_has_ended() {{ echo "asked-at-$SECONDS"; }}
    at() {{ SECONDS=$1; if gone_silently 7 '{answers}'; then echo gone; fi; }}
    at 0; at 59
    echo 1 >>'{answers}'
    at 65; at 124
    at 125; at 126; at 190
    """
    assert bash("slurm", commands) == ["asked-at-125", "gone", "asked-at-190", "gone"]


def test_a_local_job_is_its_own_whatever_is_around_it():
    inside = {"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "north", "SLURM_CPUS_PER_TASK": "4"}
    shown = "echo $JOB_ID $FULL_JOB_ID; granted_cores"
    assert bash("local", shown, ORCH_JOB_ID="local3", **inside) == ["local3", "local3"]


def test_replicas_on_this_machine_are_told_which_they_are():
    commands = "run_on_nodes 3 bash -c 'echo $ORCH_JOB_ID.$1' replica; wait"
    assert sorted(bash("local", commands, ORCH_JOB_ID="local3")) == [
        "local3.0", "local3.1", "local3.2",
    ]  # fmt: skip


def test_slurm_begins_one_replica_on_each_node(tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    said = bash(
        "slurm", "run_on_nodes 3 bash x.sh --replica; wait ${CHILDREN[0]}",
        PATH=f"{tmp_path}:/usr/bin:/bin", SLURM_CPUS_PER_TASK="4",
    )  # fmt: skip
    assert said == [
        "--ntasks=3", "--ntasks-per-node=1", "--cpus-per-task=4", "--kill-on-bad-exit=0",
        "--wait=0", "bash", "x.sh", "--replica",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "ours", "asked", "over"),
    [
        ("slurm", "10", "local1", True),
        ("slurm", "10", "local2", False),
        ("slurm", "10", "local3", True),
        ("local", "local5", "8", True),
        ("local", "local5", "9", False),
        ("local", "local5", "prepare-x", False),
    ],
)
def test_a_job_of_another_scheduler_in_the_same_directory_is_asked_for_there(
    tmp_path, name, ours, asked, over
):
    (tmp_path / "local_jobs").mkdir()
    (tmp_path / "local_jobs" / "local1.json").write_text('{"state": "CANCELLED"}')
    killed = subprocess.Popen(["true"])  # and whoever has begun it has not asked for its end yet
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    for number, runner_pid in (("2", os.getpid()), ("3", killed.pid)):
        runs = f'{{"state": "RUNNING", "runner_pid": {runner_pid}}}'
        (tmp_path / "local_jobs" / f"local{number}.json").write_text(runs)
    squeue = 'squeue() { echo "JOBID|STATE"; echo "8|FAILED"; echo "9|RUNNING"; }'
    commands = f"OUTPUT={tmp_path}; {squeue}; job_over {asked} && echo over"
    which = "SLURM_JOB_ID" if name == "slurm" else "ORCH_JOB_ID"
    assert bash(name, commands, **{which: ours}) == (["over"] if over else [])
    killed.wait()


def test_a_script_without_its_library_ends_at_once(deploy, stub, tmp_path):
    deploy("--dry-run")
    stub.library.unlink()
    ollama = script(tmp_path, "ollama")
    done = subprocess.run(["bash", ollama], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "stub.sh: No such file or directory" in done.stderr
    assert list((tmp_path / "output" / "logs").iterdir()) == []


# --- shelves -------------------------------------------------------------------------------------


def test_slurms_variables_are_read_on_its_shelf_alone():
    """The scripts at the root and scripts/ are started by sbatch itself."""
    files = [*LIB.rglob("*.sh"), *(ROOT / "templates").glob("*.j2"), *(ROOT / "hpc").rglob("*.py")]
    shelf = (ROOT / "hpc/scheduler/slurm", LIB / "scheduler/slurm.sh")
    elsewhere = [f for f in files if not any(f == at or at in f.parents for at in shelf)]
    assert len(elsewhere) > 50
    found = (
        r"\bS(LURM|BATCH)_[A-Z]|\bs(run|queue|cancel|acct) -|(==|!=) \"(slurm|local)\"|local\*\)"
    )
    assert [str(f) for f in elsewhere if re.search(found, f.read_text())] == []


# --- the runner of a local job -------------------------------------------------------------------

#: What it handles in its own way.
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def test_a_second_sigterm_does_not_end_what_the_first_has_begun(tmp_path, monkeypatch):
    """It comes before the runner has done with the first: the job is ended, and its state kept."""
    script, file = tmp_path / "job.sh", tmp_path / "local1.json"
    script.write_text(f"echo $$ >'{tmp_path}/began'; exec sleep 600\n")
    file.write_text(json.dumps({
        "id": "local1", "name": "a", "script": str(script), "stdout": f"{tmp_path}/out",
        "stderr": f"{tmp_path}/err", "time_seconds": 600, "state": "PENDING",
    }))  # fmt: skip
    told, handlers = [], {each: signal.getsignal(each) for each in ENDING}
    set_handler = signal.signal

    def with_another(signum, handler):
        if (signum, handler) == (signal.SIGTERM, signal.SIG_IGN):
            told.append(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        return set_handler(signum, handler)

    def tell():
        until((tmp_path / "began").exists)
        until(lambda: json.loads(file.read_text())["state"] == "RUNNING")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(signal, "signal", with_another)
    teller = threading.Thread(target=tell)
    teller.start()
    try:
        runner.main(file)
    finally:
        teller.join()
        for each, handler in handlers.items():
            set_handler(each, handler)
    assert told and json.loads(file.read_text())["state"] == "CANCELLED"
    assert not Path(f"/proc/{(tmp_path / 'began').read_text().strip()}").exists()
