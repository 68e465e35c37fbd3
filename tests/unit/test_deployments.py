"""--status, --stop, --attach and --logs on records: which deployment is meant, and how it is."""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from contracts.errors import SchedulerUnavailable
from contracts.files import FileError
from contracts.jobs.states import JobStatus
from hpc.commands import stop
from hpc.deployments import leftovers, records, refreshing, stopping
from hpc.deployments.records import Record, create_record, find_record, load_records
from hpc.endpoints import OutputDir
from hpc.scheduler.slurm.kind import SlurmKind

SITE = {"name": "slurm", "scheduler": "slurm"}
SLURM = SlurmKind()


class Jobs:
    """A scheduler that knows these jobs' states, and what was cancelled."""

    def __init__(self, **states):
        self.states = {name.removeprefix("j"): state for name, state in states.items()}
        self.cancelled = []
        self.calls = 0
        self.names = {}

    def mine(self, name=""):
        known = self.statuses(self.names)
        return {j: dataclasses.replace(s, name=self.names[j]) for j, s in known.items()}

    def statuses(self, job_ids):
        self.calls += 1
        if None in self.states.values():
            raise SchedulerUnavailable("squeue failed: Unable to contact slurm controller")
        return {j: JobStatus(self.states[j], left_s=90) for j in job_ids if j in self.states}

    def cancel(self, job_ids):
        self.cancelled += job_ids
        self.states.update(dict.fromkeys(job_ids, "CANCELLED"))


@pytest.fixture
def deployed(output):
    """A deployment that was ready when its record was last written."""
    record = create_record(output.path, "demo-1124-120000-aaaa", {"site": SITE})
    record.add_job("ollama", "1")
    record.add_job("client", "2")
    record.update(state="ready", endpoints={"client": "http://10.0.0.1:5000", "ollama": []})
    (output.path / "client_ip_2.txt").write_text("10.0.0.1:5000\n")
    return record


def look(record, output, monkeypatch, jobs):
    """What --status does."""
    monkeypatch.setattr(refreshing, "scheduler_of", lambda *_: jobs)
    refreshing.refresh([record], output)
    return record.state


@pytest.mark.parametrize(
    ("ollama", "client", "state"),
    [
        ("RUNNING", "RUNNING", "ready"),
        ("COMPLETING", "RUNNING", "ready"),
        ("SUSPENDED", "REQUEUE_HOLD", "ready"),
        ("FAILED", "RUNNING", "degraded"),
        ("NODE_FAIL", "RUNNING", "degraded"),
        ("FAILED", "CANCELLED", "failed"),
        ("OUT_OF_MEMORY", "FAILED", "failed"),
        ("TIMEOUT", "TIMEOUT", "ended"),
    ],
)
def test_state_is_what_the_scheduler_says(output, deployed, monkeypatch, ollama, client, state):
    assert look(deployed, output, monkeypatch, Jobs(j1=ollama, j2=client)) == state
    assert Record(deployed.path, json.loads(deployed.path.read_text())).state == state


def test_jobs_that_nobody_knows_any_more_are_lost_and_not_over(output, deployed, monkeypatch):
    assert look(deployed, output, monkeypatch, Jobs()) == "lost"
    assert (output.path / "client_ip_2.txt").exists()
    (again,) = load_records(output.path)  # what another shell reads, whose scheduler knows them
    assert look(again, output, monkeypatch, Jobs(j1="RUNNING", j2="RUNNING")) == "ready"


def test_end_that_was_seen_once_counts_when_the_scheduler_has_forgotten_it(
    output, deployed, monkeypatch
):
    assert look(deployed, output, monkeypatch, Jobs(j1="NODE_FAIL", j2="RUNNING")) == "degraded"
    assert look(deployed, output, monkeypatch, Jobs(j2="RUNNING")) == "degraded"


def test_end_at_the_time_limit_is_no_failure(output, deployed, monkeypatch):
    for job in ("1", "2"):
        (output.path / "logs" / f"{job}.rc").write_text("0\nthe time limit was reached\n")
    assert look(deployed, output, monkeypatch, Jobs()) == "ended"


def test_a_replica_that_moved_is_in_the_record_where_it_is(output, deployed, monkeypatch):
    before = ["https://10.0.0.1:11434", "https://10.0.0.1:11435"]
    deployed.update(endpoints={**deployed.endpoints, "ollama": before})
    for number in (0, 1):
        (output.path / "logs" / f"1.{number}.share").write_text(f"gpu1\n{number}\n{number}\n")
    file = output.path / "ollama_ip_1.txt"
    jobs = Jobs(j1="RUNNING", j2="RUNNING")
    for lines, second in (
        ("10.0.0.1:11434\n10.0.0.1:23456\n", "https://10.0.0.1:23456"),
        ("10.0.0.1:11434\n", "https://10.0.0.1:23456"),  # half a file says nothing
        ("10.0.0.1:nothing\n" * 2, "https://10.0.0.1:23456"),
    ):
        file.write_text(lines)
        look(deployed, output, monkeypatch, jobs)
        (record,) = load_records(output.path)
        assert record.engines == [before[0], second]
        assert [one["url"] for one in record.replicas] == [before[0], second]


def test_the_door_of_a_job_that_was_requeued_elsewhere_is_where_it_is(
    output, deployed, monkeypatch
):
    jobs, file = Jobs(j1="RUNNING", j2="RUNNING"), output.path / "client_ip_2.txt"
    deployed.update(endpoints={**deployed.endpoints, "client": "https://10.0.0.1:5000"})
    file.unlink()
    look(deployed, output, monkeypatch, jobs)
    assert load_records(output.path)[0].client == "https://10.0.0.1:5000", "it loads its model"
    file.write_text("10.0.0.7:5001\n")
    look(deployed, output, monkeypatch, jobs)
    assert load_records(output.path)[0].client == "https://10.0.0.7:5001"


def test_controller_that_does_not_answer_changes_no_record(output, deployed, monkeypatch):
    with pytest.raises(SchedulerUnavailable):
        look(deployed, output, monkeypatch, Jobs(j1=None))
    assert load_records(output.path)[0].state == "ready"


def test_exit_code_file_of_a_requeued_job_says_nothing(output, deployed, monkeypatch):
    (output.path / "logs" / "1.rc").write_text("143\nit was told to end\n")
    assert look(deployed, output, monkeypatch, Jobs(j1="PENDING", j2="RUNNING")) == "ready"
    assert look(deployed, output, monkeypatch, Jobs(j1="COMPLETING", j2="RUNNING")) == "ready"


def many(output, number):
    for n in range(number):
        record = create_record(output.path, f"demo-1124-120000-{n:04x}", {"site": SITE})
        record.add_job("ollama", str(2 * n + 1))
        record.add_job("client", str(2 * n + 2))
        endpoints = {"client": f"http://10.0.0.1:{n}", "ollama": [f"http://10.0.0.2:{n}"]}
        record.update(state="ready", endpoints=endpoints)


def test_status_of_twenty_deployments_is_one_call_and_one_line_each(orch, output, monkeypatch):
    many(output, 20)
    jobs = Jobs(**{f"j{n}": "RUNNING" for n in range(1, 41)})
    monkeypatch.setattr(refreshing, "scheduler_of", lambda *_: jobs)
    code, out, _ = orch("--status", "--output-dir", output.path)
    assert (code, jobs.calls) == (0, 1)
    lines = out.splitlines()
    assert len(lines) == 21
    assert lines[0].split() == ["deployment", "state", "age", "left", "jobs", "endpoints"]
    assert "ready" in lines[5]
    assert "00:01:30" in lines[5], "time left"
    assert lines[5].endswith("http://10.0.0.1:4 http://10.0.0.2:4")


def test_status_without_an_answer_shows_the_records_as_unchecked(orch, output, monkeypatch):
    many(output, 2)
    monkeypatch.setattr(refreshing, "scheduler_of", lambda *_: Jobs(j1=None))
    code, out, err = orch("--status", "--output-dir", output.path)
    assert code == 3
    assert out.count("ready (unchecked)") == 2
    assert "Unable to contact slurm controller; what is unchecked is as it was" in err
    code, out, _ = orch("--status", "--json", "--output-dir", output.path)
    assert code == 3
    assert [record["checked"] for record in json.loads(out)] == [False, False]


@pytest.fixture
def cut_off(output):
    """orch was killed after sbatch had given it a job, and before it could write that down."""
    record = create_record(output.path, "demo-1124-120000-cccc", {"site": SITE})
    record.add_job("ollama", "1")
    jobs = Jobs(j1="RUNNING", j2="PENDING", j3="RUNNING", j4="FAILED")
    jobs.names = {"1": f"{record.id}.ollama", "2": f"{record.id}.client",
                  "3": f"{record.id}0.client", "4": f"{record.id}.client"}  # fmt: skip
    return record, jobs


def test_status_finds_the_jobs_of_a_run_that_was_cut_off_while_submitting(
    orch, output, cut_off, monkeypatch
):
    _, jobs = cut_off
    monkeypatch.setattr(refreshing, "scheduler_of", lambda *_: jobs)
    code, out, _ = orch("--status", "--output-dir", output.path)
    assert code == 0
    assert "submitting" in out
    assert "ollama 1 RUNNING, client 2 PENDING" in out
    assert jobs.calls == 1
    assert list(load_records(output.path)[0].jobs) == ["ollama"], "looking changes no record"


def test_stop_finds_the_jobs_of_a_run_that_was_cut_off_while_submitting(output, cut_off):
    record, jobs = cut_off
    stopping.stop(record, jobs, output)
    assert jobs.cancelled == ["1", "2"]
    found = load_records(output.path)[0]
    assert (found.state, found.jobs) == ("stopped", {"ollama": "1", "client": "2"})


def test_stop_cancels_exactly_our_jobs_and_removes_what_they_left(output, deployed):
    jobs = Jobs(j1="RUNNING", j2="PENDING", j3="RUNNING")
    stopping.stop(deployed, jobs, output)
    assert jobs.cancelled == ["1", "2"]
    assert deployed.state == "stopped"
    assert not (output.path / "client_ip_2.txt").exists()


def test_dead_files_of_another_scheduler_are_left_alone(output, deployed):
    for job in ("5", "6", "local7"):
        (output.path / f"ollama_ip_{job}.txt").write_text("10.0.0.1\n")
    removed = leftovers.clear_dead_files(output, Jobs(j5="FAILED", j6="RUNNING"), SLURM, {"2"})
    assert removed == ["5"]
    left = {path.name for path in output.path.glob("*_ip_*")}
    assert left == {"client_ip_2.txt", "ollama_ip_6.txt", "ollama_ip_local7.txt"}


def test_views_of_models_go_with_dead_jobs_and_all_models_stay(output):
    """Of a job that was killed, and of its replicas; one that lives keeps its own."""
    models = output.path / "ollama_models"
    models.mkdir(parents=True, exist_ok=True)
    (models / "blob").write_text("weights")
    for job in ("5", "5.1", "6"):
        (models / f".view.{job}.d").mkdir()
        (models / f".view.{job}.d" / "blob").symlink_to("../blob")
        (models / f".view.{job}").symlink_to(f".view.{job}.d")
    (models / ".view.5.new").symlink_to(".")
    removed = leftovers.clear_dead_files(output, Jobs(j5="FAILED", j6="RUNNING"), SLURM, set())
    assert removed == ["5"]
    assert {path.name for path in models.iterdir()} == {"blob", ".view.6", ".view.6.d"}


def test_silent_scheduler_clears_nothing(output, deployed):
    assert leftovers.clear_dead_files(output, Jobs(j2=None), SLURM, set()) == []
    assert (output.path / "client_ip_2.txt").exists()


def test_start_of_an_id_names_a_deployment(output, deployed):
    assert find_record(output.path, "demo").id == deployed.id


@pytest.mark.parametrize("option", ["--stop", "--status", "--attach", "--logs"])
def test_unknown_or_ambiguous_ids_are_refused_with_what_there_is(orch, output, deployed, option):
    create_record(output.path, "demo-1124-120000-bbbb", {"site": SITE})
    for given, problem in (("nosuch", "there is no deployment"), ("demo", "several deployments")):
        code, _, err = orch(option, given, "--output-dir", output.path)
        assert code == 2
        assert problem in err
        assert deployed.id in err


def test_newest_deployment_is_last_however_quickly_they_follow(output):
    made = [
        create_record(output.path, f"{name}-1124-120000-cccc", {"site": SITE}) for name in "zyx"
    ]
    made[0].update(state="ready")
    assert [r.id for r in load_records(output.path)] == [r.id for r in made]


def test_files_that_are_no_record_are_passed_over(output, deployed):
    folder = output.path / "deployments"
    (folder / "torn.json").write_text('{"id": "to')
    (folder / "other.json").write_text("[1]")
    assert [record.id for record in load_records(output.path)] == [deployed.id]


def test_a_full_disk_keeps_no_deployment_from_being_stopped(orch, output, monkeypatch):
    many(output, 3)
    jobs = Jobs(**{f"j{n}": "RUNNING" for n in range(1, 7)})
    monkeypatch.setattr(stop, "scheduler_of", lambda *_: jobs)

    def full(*_):
        raise FileError("cannot write it: No space left on device")

    monkeypatch.setattr(records, "write_atomically", full)
    code, _, err = orch("--stop", "all", "--output-dir", output.path)
    assert (code, "No space left" in err) == (4, True)
    assert sorted(jobs.cancelled) == ["1", "2", "3", "4", "5", "6"]


def test_nothing_to_stop_or_attach_is_said(orch, output):
    assert orch("--stop", "all", "--output-dir", output.path)[0] == 0
    code, _, err = orch("--attach", "--output-dir", output.path)
    assert (code, "no deployment" in err) == (2, True)


@pytest.mark.parametrize(
    "arguments", [(), ("a.json", "--status"), ("--stop", "all", "--attach"), ("--logs", *"abc")]
)
def test_exactly_one_thing_is_done_at_a_time(orch, arguments):
    assert orch(*arguments)[0] == 2


def test_without_sbatch_the_slurm_site_says_what_to_do(orch, monkeypatch, tmp_path, recipe_data):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    monkeypatch.setenv("PATH", "/nonexistent")
    code, _, err = orch("recipe.json", "--site", "slurm")
    assert code == 3
    assert "no sbatch on PATH" in err
    assert "login node" in err
    assert not list(tmp_path.glob("output/deployments/*"))


def test_command_line_to_copy_works_from_where_one_is(tmp_path, monkeypatch):
    project = Path(__file__).resolve().parents[2]
    output = OutputDir(project / "output")
    monkeypatch.chdir(project)
    assert output.command("--stop", "one") == "python3 orch.py --stop one"
    monkeypatch.chdir(tmp_path)
    words = ["python3", f"{project}/orch.py", "--stop", "one", "--output-dir", str(output.path)]
    assert shlex.split(output.command("--stop", "one")) == words
    odd = OutputDir(tmp_path / "it's here")
    assert shlex.split(odd.command("--attach"))[-1] == f"{tmp_path}/it's here"


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"id": "x", "created": "2026-01-01"}'])
def test_file_that_is_no_record_is_left_out(tmp_path, text):
    (tmp_path / "deployments").mkdir()
    record = create_record(tmp_path, "one", {"site": SITE})
    (tmp_path / "deployments" / "other.json").write_text(text)
    assert [found.id for found in load_records(tmp_path)] == [record.id]


def test_log_that_no_node_could_write_is_missed_by_its_path(tmp_path):
    OutputDir(tmp_path).prepare()
    (line,) = OutputDir(tmp_path).log_tail("ollama", "7")
    assert str(tmp_path) in line and "file system that all nodes share" in line


def test_why_a_log_is_empty_is_found_out_by_writing_beside_it(tmp_path):
    (tmp_path / "logs").write_text("no folder")
    assert (
        OutputDir(tmp_path)
        .log_tail("ollama", "7")[-1]
        .startswith(f"cannot write {tmp_path}/logs: Not a directory; make room")
    )


def test_a_line_to_copy_is_given_also_where_our_folder_is_gone(tmp_path, monkeypatch):
    output = OutputDir(tmp_path / "output")
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert output.command("--stop", "x").endswith(f"--stop x --output-dir {tmp_path}/output")


def test_what_a_record_of_another_version_holds_is_kept_in_its_place(output, deployed):
    data = json.loads(deployed.path.read_text())
    data = {"news": [1], **data, "jobs": {"ollama": {"id": "1", "rank": 3}}, "extra": {"a": None}}
    deployed.path.write_text(json.dumps(data))
    (found,) = load_records(output.path)
    found.add_job("client", "2;north", name="x.client")
    written = json.loads(deployed.path.read_text())
    assert list(written) == list(data)
    client = {"id": "2", "cluster": "north", "name": "x.client"}
    assert written == {**data, "jobs": {"ollama": {"id": "1", "rank": 3}, "client": client}}


def test_record_of_an_older_version_says_nothing_of_what_it_lacks(output):
    old = {"id": "old", "state": "ready", "created": "2026-01-02T03:04:05+00:00", "jobs": {}}
    old |= {"site": {"scheduler": "slurm"}, "endpoints": {"client": None, "ollama": []}}
    (output.path / "deployments" / "old.json").write_text(json.dumps(old))
    (found,) = load_records(output.path)
    assert (found.client, list(found.engines), found.clusters, found.controller) == (
        None,
        [],
        "",
        None,
    )
    assert (found.warnings, found.benchmark, found.job_states) == ([], None, {})
    assert found.checked and found.seconds_left is None and found.limit_s == float("inf")
    found.note(checked=False)
    assert found.as_json() == {**old, "checked": False}
    assert json.loads(found.path.read_text()) == old, "what is noted is written nowhere"
