"""Jobs on several clusters, and controllers that do not know a job: no end that nobody has seen."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import clientServiceHandler
import ollamaService
from contracts.errors import SchedulerError, SchedulerUnavailable
from contracts.files import PROJECT
from contracts.jobs.states import JobStatus
from hpc.deployment import Deployment
from hpc.deployments import leftovers, stopping
from hpc.deployments.records import Record, create_record
from hpc.planning.plan import make_plan
from hpc.recipe.reading import parse_recipe
from hpc.scheduler.interface import Submission
from hpc.scheduler.slurm import calls
from hpc.scheduler.slurm.answers import parse_squeue
from hpc.scheduler.slurm.commands import SlurmScheduler
from hpc.scheduler.slurm.kind import SlurmKind
from hpc.site import Site

SLURM = Path(__file__).with_name("fake_slurm.py")
SITE = {"name": "s", "scheduler": "slurm", "cpu_partitions": ["cpu"], "gpu_partitions": ["gpu"]}


class Clusters:
    """Several controllers, whose jobs are lines of files; see fake_slurm.py."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        python = Path(sys.executable).parent
        monkeypatch.setenv("PATH", f"{folder}/bin:{python}:/usr/bin:/bin")
        monkeypatch.setenv("FAKE_SLURM", str(folder))
        (folder / "bin").mkdir(parents=True)
        for tool in ("sbatch", "squeue", "sacct", "scancel", "sinfo"):
            (folder / "bin" / tool).symlink_to(SLURM)

    def write(self, cluster, *jobs):
        """The jobs that a cluster's controller knows: (id, state, name)."""
        (self.folder / cluster).write_text(json.dumps([list(job) for job in jobs]))

    def states(self, cluster):
        jobs = json.loads((self.folder / cluster).read_text())
        return {str(number): state for number, state, _ in jobs}

    def calls(self, tool):
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(f"{tool} ")]


@pytest.fixture
def clusters(tmp_path, monkeypatch):
    return Clusters(tmp_path / "slurm", monkeypatch)


def test_each_cluster_is_asked_once_about_its_own_jobs(clusters):
    clusters.write("default", (7, "RUNNING", "a"))
    clusters.write("north", (7, "FAILED", "b"), (8, "PENDING", "c"))
    found = SlurmScheduler().statuses(["7", "7;north", "8;north"])
    states = {job_id: status.state for job_id, status in found.items()}
    assert states == {"7": "RUNNING", "7;north": "FAILED", "8;north": "PENDING"}
    assert len(clusters.calls("squeue")) == 2
    assert clusters.calls("sacct") == []


def test_jobs_are_cancelled_where_they_were_taken(clusters):
    clusters.write("default", (7, "RUNNING", "somebody's"))
    clusters.write("north", (7, "RUNNING", "ours"))
    SlurmScheduler().cancel(["7;north"])
    assert clusters.states("north") == {"7": "CANCELLED"}
    assert clusters.states("default") == {"7": "RUNNING"}


def test_own_jobs_are_looked_for_on_each_cluster_that_they_may_be_on(clusters):
    clusters.write("north", (7, "RUNNING", "a.ollama"))
    clusters.write("south", (9, "RUNNING", "a.client"))
    assert set(SlurmScheduler("north,south").mine()) == {"7;north", "9;south"}
    assert set(SlurmScheduler("all").mine()) == {"7;north", "9;south"}
    assert len(clusters.calls("squeue")) == 3


def test_all_jobs_of_a_deployment_go_where_sbatch_sent_the_first(clusters, output, recipe_data):
    """Jobs depend on each other within one cluster alone."""
    clusters.write("north")
    clusters.write("south")
    site = Site(**SITE, directives=["--cluster south,north"])
    plan = make_plan(parse_recipe(recipe_data), site, monitoring=False)
    record = create_record(output.path, "demo", {"site": SITE, "settings": {}})
    deployment = Deployment("demo", plan, output, SlurmScheduler("south,north"), record)
    assert ollamaService.setup_ollama(deployment) == "1;south"
    (clusters.folder / "calls").unlink()
    assert clientServiceHandler.setup_client_service(deployment) == "2;south"
    script = (output.path / "scripts" / "demo.client.sh").read_text()
    assert [line for line in script.splitlines() if "--cluster" in line] == [
        "#SBATCH --clusters=south"
    ]
    assert "#SBATCH --dependency=after:1\n" in script
    assert "SERVED='1;south'" in script
    written = record.as_json()["jobs"]["client"]
    assert written == {"id": "2", "cluster": "south", "name": "demo.client"}
    assert record.jobs == {"ollama": "1;south", "client": "2;south"}


@pytest.mark.parametrize(
    ("served", "words", "asked"),
    [
        ("1;south", "'' ''", "sbatch --parsable --clusters=south s.sh"),
        ("1;south", "'' '4;south 5;south'",
         "sbatch --parsable --clusters=south --dependency=after:4,after:5 s.sh"),
        ("1", "'' '4 5'", "sbatch --parsable --dependency=after:4,after:5 s.sh"),
        ("1;south", None, "squeue --clusters=south --user=ID --noheader --name=d.x --format=%A"),
        ("", None, "squeue --user=ID --noheader --name=d.x --format=%A"),
    ],
)  # fmt: skip
def test_the_next_jobs_of_a_deployment_go_where_its_first_ones_are(served, words, asked):
    script = f"""
    . lib/service.sh
    . lib/scheduler/slurm.sh
    sbatch() {{ echo "sbatch $*" >&2; }}
    env() {{ sbatch "${{@:3}}"; }}
    squeue() {{ echo "squeue $*" | sed "s/=$UID /=ID /" >&3; }}
    exec 3>&2
    SERVED='{served}' SUBMIT_HOST=h
    {f"submit_script {words} s.sh" if words else "jobs_named d.x"}
    """
    environment = {name: value for name, value in os.environ.items() if "SLURM" not in name}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=PROJECT,
                          env=environment)  # fmt: skip
    assert done.stderr.splitlines() == [asked]


def test_files_of_a_job_have_no_cluster_in_their_names(output):
    (output.path / "logs" / "7.rc").write_text("3\nno space left\n")
    (output.path / "ollama_ip_7.txt").write_text("10.0.0.1:11434\n")
    assert output.exit_status("7;north").reason == "no space left"
    assert output.addresses("ollama", "7;north") == ["10.0.0.1:11434"]
    output.forget("7;north")
    assert not (output.path / "ollama_ip_7.txt").exists()


# --- a controller that does not know the job -----------------------------------------------------


@pytest.fixture
def deployed(output):
    """Two jobs that were running when anybody last looked."""
    facts = {"site": SITE, "recipe": {"job": {"infrastructure": {"time": "01:00:00"}}}}
    record = create_record(output.path, "demo", facts)
    record.add_job("ollama", "1", name="demo.ollama")
    record.add_job("client", "2", name="demo.client")
    record.update(state="ready")
    (output.path / "client_ip_2.txt").write_text("10.0.0.1:5000\n")
    return record


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(stopping, "UNKNOWN_PATIENCE_S", 0.2)


def stop(orch, output):
    return orch("--stop", "all", "--output-dir", output.path)


def test_jobs_of_an_unknown_id_are_not_called_stopped(clusters, output, deployed, orch):
    clusters.write("default")
    (output.path / "logs" / "1.started").write_text("gpu7\n")
    code, out, err = stop(orch, output)
    assert code == 3
    assert "ollama job 1, client job 2 of demo: not known to the scheduler" in err
    assert "it may still run on gpu7" in err
    assert "is stopped" not in out + err
    assert (output.path / "client_ip_2.txt").exists()
    code, out, _ = orch("--status", "--output-dir", output.path)
    assert (code, "lost" in out) == (0, True)


def test_another_job_with_the_same_id_is_neither_cancelled_nor_ours(
    clusters, output, deployed, orch
):
    clusters.write("default", (1, "RUNNING", "thesis"), (2, "COMPLETED", "demo.client"))
    code, _, err = stop(orch, output)
    assert code == 3
    assert "ollama job 1 of demo: not known to the scheduler" in err
    assert clusters.states("default")["1"] == "RUNNING"
    assert clusters.calls("scancel") in ([], ["scancel 2"])
    assert not (output.path / "client_ip_2.txt").exists(), "the client's was seen to end"


def test_job_that_wrote_down_its_end_has_ended(clusters, output, deployed, orch):
    clusters.write("default")
    for number in (1, 2):
        (output.path / "logs" / f"{number}.rc").write_text("0\nthe time limit was reached\n")
    assert stop(orch, output)[0] == 0


def test_time_limit_that_is_long_past_is_an_end(clusters, output, deployed, orch):
    clusters.write("default")
    for number in (1, 2):
        started = output.path / "logs" / f"{number}.started"
        started.write_text("gpu7\n")
        os.utime(started, (time.time() - 8000,) * 2)
    assert stop(orch, output)[0] == 0


def test_lost_deployment_does_not_keep_another_from_being_stopped(clusters, output, deployed, orch):
    other = create_record(output.path, "other", {"site": SITE})
    other.add_job("ollama", "5", name="other.ollama")
    other.update(state="ready")
    clusters.write("default", (5, "RUNNING", "other.ollama"))
    assert stop(orch, output)[0] == 3
    assert clusters.states("default") == {"5": "CANCELLED"}
    assert Record(other.path, json.loads(other.path.read_text())).state == "stopped"


def test_another_shell_asks_the_controller_that_took_the_jobs(
    clusters, output, deployed, orch, tmp_path, monkeypatch
):
    """fake_slurm.py's default cluster is the one that $SLURM_CONF names."""
    conf = tmp_path / "north"
    conf.touch()
    deployed.update(controller={"SLURM_CONF": str(conf)})
    clusters.write("north", (1, "RUNNING", "demo.ollama"), (2, "RUNNING", "demo.client"))
    clusters.write("default", (1, "RUNNING", "thesis"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "south"))
    monkeypatch.setenv("SLURM_CLUSTERS", "south")
    assert stop(orch, output)[0] == 0
    assert clusters.states("north") == {"1": "CANCELLED", "2": "CANCELLED"}
    assert clusters.states("default") == {"1": "RUNNING"}


def test_files_of_a_job_whose_end_nobody_has_seen_are_not_cleared(clusters, output, deployed):
    clusters.write("default", (2, "COMPLETED", "thesis"), (9, "FAILED", "by hand"))
    for number in (8, 9):
        (output.path / f"ollama_ip_{number}.txt").write_text("10.0.0.1\n")
    assert leftovers.clear_dead_files(output, SlurmScheduler(), SlurmKind(), set()) == ["9"]
    assert (output.path / "client_ip_2.txt").exists(), "job 2 is another one now"


FLAKY = """#!/bin/sh
[ -e {mark} ] && echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2 && exit 1
touch {mark}
echo '1|COMPLETING|n|N/A|1:00|demo.ollama|None'; echo '2|RUNNING|n|N/A|1:00|demo.client|None'
"""


def test_silence_after_a_job_was_seen_to_run_is_no_end(
    clusters, output, deployed, orch, tmp_path, monkeypatch
):
    """It is asked once before the cancelling, with an answer, and then in vain."""
    clusters.write("default", (1, "RUNNING", "demo.ollama"), (2, "RUNNING", "demo.client"))
    (clusters.folder / "bin" / "squeue").unlink()
    (clusters.folder / "bin" / "squeue").write_text(FLAKY.format(mark=tmp_path / "asked"))
    (clusters.folder / "bin" / "squeue").chmod(0o755)
    monkeypatch.setattr(stopping, "STOP_TIMEOUT_S", 0.5)
    code, _, err = stop(orch, output)
    assert (code, "Unable to contact" in err) == (3, True)
    assert (output.path / "client_ip_2.txt").exists()
    for number in (1, 2):
        (output.path / "logs" / f"{number}.rc").write_text("143\nit was told to end\n")
    (tmp_path / "asked").unlink()
    assert stop(orch, output)[0] == 0, "what the jobs wrote down is enough"


def test_job_of_a_federation_that_runs_elsewhere_goes_on():
    assert not JobStatus("REVOKED").over


# --- what stands around squeue's answer ----------------------------------------------------------

HEADER = "JOBID|STATE|NODELIST|START_TIME|TIME_LEFT|NAME|REASON\n"
JOB = "7|RUNNING|n1|N/A|1:00|demo.ollama|None\n"


@pytest.mark.parametrize(
    ("text", "wanted", "is_answer"),
    [
        ("NOTICE: maintenance\nCLUSTER: alpha\n" + HEADER + JOB, ["7"], True),
        ("NOTICE: maintenance\n" + HEADER, ["7"], True),
        ("NOTICE: maintenance\n" + JOB, ["7", "8"], True),
        ("CLUSTER: alpha\n", ["7"], True),
        ("NOTICE: maintenance\n", ["7"], False),
        (HEADER + "8|RUNN", ["7", "8"], False),
        (JOB + "8|RUNNING|n1", ["8"], False),
        ("JOBID  CLUSTER  STATE\n7  c5  RUNNING\n", ["7"], False),
        (JOB + "777|RUNNING|n1|N/A|1:00|two\nlines|None\n", [], True),
    ],
)
def test_greetings_and_headers_are_told_from_an_answer_that_is_none(text, wanted, is_answer):
    assert parse_squeue(text).is_an_answer_about(wanted) is is_answer


def test_accounting_is_asked_where_squeue_is_a_table_of_the_sites_own(clusters):
    clusters.write("default", (7, "RUNNING", "a"))
    (clusters.folder / "bin" / "squeue").unlink()
    (clusters.folder / "bin" / "squeue").write_text("#!/bin/sh\necho 'ID  STATE'; echo '7  R'\n")
    (clusters.folder / "bin" / "squeue").chmod(0o755)
    assert SlurmScheduler().statuses(["7"])["7"].state == "RUNNING"
    with pytest.raises(SchedulerUnavailable, match="no list of jobs"):
        SlurmScheduler().statuses(["7", "8"])
    SlurmScheduler(names={"7": "thesis"}).cancel(["7"])
    assert clusters.states("default") == {"7": "RUNNING"}, "scancel looks at the name"


def test_cancelling_does_not_depend_on_squeue(clusters):
    clusters.write("default", (7, "RUNNING", "ours"), (8, "RUNNING", "thesis"))
    (clusters.folder / "bin" / "squeue").unlink()
    (clusters.folder / "bin" / "squeue").symlink_to("/bin/false")
    SlurmScheduler(names={"7": "ours", "8": "ours"}).cancel(["7", "8"])
    assert clusters.states("default") == {"7": "CANCELLED", "8": "RUNNING"}


# --- cancelling comes first ----------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["while it is started", "before it is started"])
def test_squeue_of_another_thread_makes_way_whenever_the_cancelling_comes(
    clusters, monkeypatch, moment
):
    clusters.write("default", (7, "RUNNING", "a"))
    (clusters.folder / "bin" / "squeue").unlink()
    (clusters.folder / "bin" / "squeue").write_text("#!/bin/sh\nexec sleep 100\n")
    (clusters.folder / "bin" / "squeue").chmod(0o755)
    scheduler = SlurmScheduler()
    cancelling = threading.Thread(target=scheduler.cancel, args=(["7"],))
    running = scheduler._commands
    close, closing, start = running.end_squeue, threading.Event(), calls.subprocess.Popen

    def popen(command, **options):
        if command[0] == "squeue":
            process = start(command, **options)
            cancelling.start()
            closing.wait(20)  # and only now is the process noted
            return process
        return start(command, **options)

    if moment == "while it is started":
        monkeypatch.setattr(calls.subprocess, "Popen", popen)
        monkeypatch.setattr(running, "end_squeue", lambda: (closing.set(), close()))
    else:
        monkeypatch.setattr(running, "end_squeue", lambda: (close(), ask()))

    def ask():
        thread = threading.Thread(target=refused)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()

    def refused():
        with pytest.raises(SchedulerUnavailable):
            scheduler.statuses(["7"])

    begin = time.monotonic()
    ask() if moment == "while it is started" else scheduler.cancel(["7"])
    if cancelling.ident:
        cancelling.join(20)
    assert time.monotonic() - begin < 20, "and not the 100 s that squeue takes"
    assert clusters.states("default") == {"7": "CANCELLED"}


def test_refused_partition_names_the_cluster_that_the_other_jobs_are_on(clusters):
    clusters.write("north")
    (clusters.folder / "refuse").write_text("Invalid partition name specified")
    job = Submission("demo.client", "client", Path("/dev/null"), "o", "e", 600, "north")
    with pytest.raises(SchedulerError, match="must run on the cluster north") as error:
        SlurmScheduler("north,south").submit(job)
    assert error.value.exit_code == 3
