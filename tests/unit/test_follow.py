"""Jobs that end, or are requeued, while a benchmark runs: what is said of them."""

import json

import pytest

from contracts.errors import SchedulerError, SchedulerUnavailable
from contracts.jobs.states import JobStatus
from hpc.console import Console
from hpc.deployments.records import create_record
from hpc.endpoints import OutputDir
from hpc.following.follower import Follower
from hpc.following.job_watch import JobEnded, MeasuredDied
from hpc.service import Launched
from orch import services


class Jobs:
    """A scheduler for which all jobs but the first are RUNNING."""

    def __init__(self, state):
        self.state = state

    def statuses(self, job_ids):
        if self.state is None:
            raise SchedulerUnavailable("squeue failed")
        first, *others = job_ids
        return {first: JobStatus(self.state), **{j: JobStatus("RUNNING") for j in others}}

    def cancelled_by(self, job_id):
        return "user hpcother"


@pytest.fixture
def follow(tmp_path, recipe_data, monkeypatch):
    """A follower of a deployment whose Ollama job is in a given state."""
    monkeypatch.setattr("hpc.following.polling.FIRST_POLL_S", 0)
    monkeypatch.setattr("hpc.following.polling.STEP_S", 120.0)  # one look, with its answer
    output = OutputDir(tmp_path)
    output.prepare()
    record = create_record(tmp_path, "demo-1124-120000-aaaa", {"recipe": recipe_data, "model": "m"})
    record.add_job("ollama", "1")
    record.add_job("client", "2")
    launched = Launched(record, output)
    return lambda state: Follower(launched, services(), Jobs(state), Console())


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("PENDING", r"ollama job 1 was requeued during the run \(now PENDING\)"),
        ("REQUEUE_HOLD", "was requeued during the run"),
        ("CANCELLED", r"job 1 \[CANCELLED\] ended during the run: was cancelled by user hpcother"),
        ("NODE_FAIL", r"\[NODE_FAIL\] ended during the run: failed: a node went down"),
        ("OUT_OF_MEMORY", "raise mem_gb"),
    ],
)
def test_job_that_is_no_more_ends_the_run_and_is_named(follow, state, words):
    with pytest.raises(JobEnded, match=words):
        follow(state)._jobs.check()


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "SUSPENDED", "TELEPORTING", None])
def test_job_that_is_not_over_does_not_end_the_run(follow, state):
    follow(state)._jobs.check()


def test_run_that_fails_since_a_job_was_requeued_blames_the_job(follow):
    with pytest.raises(JobEnded, match="requeued"):
        follow("PENDING")._jobs.blame()
    follow("RUNNING")._jobs.blame()


def test_reason_that_the_job_gave_itself_is_told(follow, tmp_path):
    (tmp_path / "logs" / "1.rc").write_text("1\nno space left\n")
    with pytest.raises(JobEnded, match=r"\[FAILED\] ended during the run: no space left"):
        follow("FAILED")._jobs.check()


def test_deployment_of_half_a_submission_is_not_followed(tmp_path, recipe_data):
    OutputDir(tmp_path).prepare()
    record = create_record(tmp_path, "demo-1124-120000-aaaa", {"recipe": recipe_data, "model": "m"})
    record.add_job("ollama", "1")
    launched = Launched(record, OutputDir(tmp_path))
    follower = Follower(launched, services(), Jobs("RUNNING"), Console())
    with pytest.raises(SchedulerError, match="was cut off while its jobs were being submitted"):
        follower.wait(1, 1)


def test_ollama_that_ends_by_itself_makes_the_run_invalid(follow, tmp_path):
    (tmp_path / "logs" / "1.rc").write_text("137\nthe service stopped by itself\n")
    with pytest.raises(MeasuredDied) as caught:
        follow("FAILED")._jobs.check()
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("OUT_OF_MEMORY", 137, "raise mem_gb"),
        ("NODE_FAIL", 143, "a node went down"),
        ("CANCELLED", 143, "was cancelled by user hpcother"),
        ("TIMEOUT", 143, "reached its time limit"),
    ],
)
def test_job_that_was_ended_is_a_failed_service(follow, tmp_path, state, code, words):
    """Slurm's word goes before the script's, which knows less."""
    (tmp_path / "logs" / "1.rc").write_text(f"{code}\nthe service stopped by itself\n")
    with pytest.raises(JobEnded, match=words) as caught:
        follow(state)._jobs.check()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_measured_is_kept_where_a_job_is_lost(follow, tmp_path, monkeypatch, whole):
    """The client service may be gone with it: its address refuses connections."""
    monkeypatch.setattr("hpc.following.benchmark.RESULTS_S", 0.2)
    follower = follow("RUNNING")
    folder = tmp_path / "benchmarks" / "run"
    folder.mkdir()
    requests = {"planned": 9, "succeeded": 3, "failed": 2, "errors": {"connect": 2}}
    if whole:
        (folder / "summary.json").write_text(json.dumps({"partial": True, "requests": requests}))
    follower.record.update(
        endpoints={"client": "http://127.0.0.1:9"}, benchmark={"state": "running"}
    )
    ended = JobEnded("the client job 2 ended", ["last lines"])
    follower._keep_partial(ended, "run", folder)
    assert follower.record.benchmark.state == "partial"
    assert follower.record.as_json()["benchmark"].get("requests") == (requests if whole else None)
    words = "3 of 9 requests succeeded, 2 failed (connect: 2)" if whole else "left no results"
    assert words in ended.details[0] and ended.details[1] == "last lines"


def test_node_and_image_of_each_service_are_recorded_where_there_are_images(follow, tmp_path):
    follower, logs = follow("RUNNING"), tmp_path / "logs"
    (logs / "1.started").write_text("gpu1\n")
    (logs / "2.started").write_text("cpu1\n")
    nodes = {"ollama": "gpu1", "client": "cpu1"}
    assert follower._where_it_runs() == {"nodes": nodes, "images": {}}
    (logs / "1.image").write_text("/i/ollama-1a2b.sif\nc0ffee\n3\n2026-01-02T03:04:05Z\n")
    image = {"path": "/i/ollama-1a2b.sif", "sha256": "c0ffee", "bytes": 3}
    image["changed"] = "2026-01-02T03:04:05Z"
    assert follower._where_it_runs() == {"nodes": nodes, "images": {"ollama": image}}


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_documents_end_a_deployment_only_where_they_are_required(
    follow, tmp_path, monkeypatch, required, broken
):
    from contracts.errors import ServiceError
    from hpc.recipe.sections import Retrieval
    from retrieval.documents import Skipped
    from retrieval.ingest import IngestProgress as Ingest

    def ingest(*_):
        if broken:
            raise ServiceError("the ingest broke off at /a: it is gone; run it again.")
        return Ingest(files=2, done=2, skipped=[Skipped("/a", "binary", "it is binary")])

    monkeypatch.setattr("hpc.ingest.ingest_paths", ingest)
    follower = follow("RUNNING")
    follower.record.update(endpoints={"client": "http://127.0.0.1:9"}, warnings=["one"])
    retrieval = Retrieval(documents=[str(tmp_path)], required=required)
    words = "broke off at /a" if broken else "left out 1 of 2 files"
    if required:
        with pytest.raises(ServiceError, match=f"{words}.*retrieval is required") as caught:
            follower._ingest(retrieval)
        assert caught.value.exit_code == 4
    else:
        follower._ingest(retrieval)
        first, second = follower.record.warnings
        assert first == "one" and words in second
