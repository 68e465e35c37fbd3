"""A deployment that outlives its jobs: what a recipe asks for, when the next jobs are submitted,
what becomes of those before, and what others are told of it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from test_deployments import SITE, Jobs, look

from client.handover.course import Course
from client.handover.settings import Settings
from client.handover.state import State, StateFile
from client.handover.times import SLACK_S, drain_of, end_of, longest
from contracts.errors import UsageError
from contracts.files import PROJECT, FileError
from contracts.job_files import chain_folder, chain_said
from hpc.commands.status import handover_lines
from hpc.connecting.session import SOON_S
from hpc.deployments import records
from hpc.deployments.chain import Chain
from hpc.deployments.records import Record, create_record, load_records
from hpc.deployments.stopping import stop
from hpc.endpoints import OutputDir
from hpc.planning.chain import bounded, in_jobs
from hpc.planning.parts import Notes
from hpc.recipe.schema import Recipe
from hpc.scheduler.interface import Partition
from hpc.site import Site

HERE, NEXT = "http://10.0.0.1:5000", "http://10.0.0.2:5001"
NOW = 1_000_000.0


class FakeDoor:
    """What the door was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.open = self.retrieving = 0
        self.up = True

    def forward(self, url: str) -> None:
        self.told.append(f"forward {url}")

    def keep(self) -> None:
        self.told.append("keep")

    def redirect(self, url: str) -> None:
        self.told.append(f"redirect {url}")

    def open_answers(self) -> int:
        return self.open

    def retrievals(self) -> int:
        return self.retrieving

    def engine_answers(self) -> bool:
        return self.up

    def longest_s(self) -> float:
        return 0.0


class Job:
    """A client's job of 600 s with an engine's, both begun 100 s ago, and its course."""

    def __init__(self, folder: Path) -> None:
        self.output, self.door = folder, FakeDoor()
        self.chain = folder / "ID.chain"
        self.hands = folder / "hands"
        for made in (self.chain, self.hands, folder / "logs"):
            made.mkdir()
        self.healthy = {HERE}
        self.settings = Settings(
            job=1, job_id="2", engine="ollama", engine_job="1", job_end=int(NOW) + 200, limit=300,
            chain=self.chain, scripts=str(folder / "s"), output=folder, door=self.hands, url=HERE,
        )  # fmt: skip
        self.begin("1", NOW - 100)
        self.course = self.another()

    def another(self, **changed: int | str) -> Course:
        self.settings = replace(self.settings, **changed)  # type: ignore[arg-type]
        self.course = Course(self.settings, self.door, self.healthy.__contains__)
        return self.course

    def begin(self, job: str, at: float) -> None:
        path = self.output / "logs" / f"{job}.started"
        path.touch()
        os.utime(path, (at, at))

    def look(self, now: float) -> State:
        self.course.look(now)
        return self.course.state

    def wanted(self) -> list[str]:
        """What the job's script was asked for since the last time."""
        found = sorted(path.name for path in self.hands.glob("want.*"))
        for name in found:
            (self.hands / name).unlink()
        return [name.removeprefix("want.") for name in found]

    def submitted(self, now: float) -> None:
        """The script has submitted the next jobs, 3 and 4."""
        with (self.chain / "jobs").open("a") as file:
            file.write("2 ollama 3\n2 client 4\n")
        (self.hands / "submitted").write_text("0\n")
        self.look(now)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_a_job_serves_once_the_model_answers_there_and_still_if_it_is_begun_again(job: Job) -> None:
    job.healthy.clear()
    assert job.look(NOW).submit_at is None and not job.course.serves
    job.healthy.add(HERE)
    job.look(NOW + 1)
    assert job.course.serves
    job.healthy.clear()
    job.another().look(NOW + 2)
    assert job.course.serves


def test_that_it_serves_is_written_down_once_there_is_room(job: Job) -> None:
    """Else the job before would never hand over to it."""
    (job.chain / "jobs").mkdir()
    with pytest.raises(OSError):
        job.look(NOW)
    (job.chain / "jobs").rmdir()
    job.look(NOW + 1)
    assert chain_said(job.chain)[1] == {".serves": HERE, ".ready": "101"}


def test_a_job_that_was_requeued_says_where_it_serves_now(job: Job) -> None:
    (job.chain / "jobs").write_text(f"1 .ready 5\n1 .queued 7\n1 .serves {NEXT}\n")
    Path(f"{job.settings.scripts}.ollama.sh").touch()
    job.look(NOW)
    found = chain_said(job.chain)[1]
    assert found == {".ready": "100", ".queued": "7", ".serves": HERE}


def test_the_lead_is_what_was_measured(job: Job) -> None:
    job.begin("1", NOW - 80)
    state = job.look(NOW)
    assert chain_said(job.chain)[1][".ready"] == "80"
    assert chain_said(job.chain)[1][".serves"] == HERE
    state = job.look(NOW + 1)
    assert state.lead == {"ready": 80, "queue": 0, "drain": 30}
    assert state.submit_at == state.ends - 140
    assert job.wanted() == []


def test_a_long_wait_in_the_queue_leaves_each_job_half_of_its_time(job: Job) -> None:
    (job.chain / "jobs").write_text(f"1 .ready 5\n1 .queued 900\n1 .serves {HERE}\n")
    job.look(NOW)
    state = job.look(NOW + 1)
    assert (state.lead_s, state.submit_at) == (150, state.ends - 150)
    assert job.wanted() == []


def test_new_requests_go_to_the_next_door_once_the_model_answers_there(job: Job) -> None:
    job.look(NOW)
    at = NOW + 60
    job.look(at)
    assert job.wanted() == ["submit"]
    job.submitted(at + 1)
    assert job.look(at + 2).phase == "submitted"
    job.begin("3", at + 3)
    assert job.look(at + 4).phase == "waiting"
    job.healthy.add(NEXT)
    assert job.look(at + 5).phase == "waiting", "who asks where it is would not be told"
    assert job.door.told == []
    with (job.chain / "jobs").open("a") as file:
        file.write(f"2 .serves {NEXT}\n")
    state = job.look(at + 6)
    assert (state.phase, state.address, job.door.told) == (
        "handing_over",
        NEXT,
        [f"forward {NEXT}"],
    )


def test_the_engine_ends_when_no_answer_is_open_and_the_door_at_the_end(job: Job) -> None:
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    job.door.open, now = 1, NOW + 70
    for second in range(10):
        assert job.look(now + second).phase == "handing_over"
    assert "relieve" not in job.wanted()
    job.door.open = 0
    job.look(now + 11)
    assert job.look(now + 12).phase == "handed_over"
    assert job.wanted() == ["relieve"]
    ends = job.course.state.ends
    job.look(ends - 31)
    assert job.door.told == [f"forward {NEXT}"]
    job.look(ends - 29)
    assert job.door.told[-1] == f"redirect {NEXT}"
    assert job.wanted() == ["expected"], "whether the next ones are there still"
    job.look(ends)
    assert job.wanted() == ["end"]


def test_a_next_job_that_is_requeued_is_followed_to_its_new_door(job: Job) -> None:
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    elsewhere, ends = "http://10.0.0.3:5000", job.course.state.ends
    with (job.chain / "jobs").open("a") as file:
        file.write(f"2 .serves {elsewhere}\n")
    job.look(NOW + 70)
    assert job.door.told == [f"forward {NEXT}"], "it does not answer yet"
    job.healthy.add(elsewhere)
    job.look(NOW + 71)
    job.look(NOW + 72)
    assert job.door.told == [f"forward {NEXT}", f"forward {elsewhere}"]
    job.look(ends - 1)
    assert job.door.told[-1] == f"redirect {elsewhere}"


@pytest.mark.parametrize(
    "word", ["4.rc", "over"], ids=["says it itself", "its node has failed for good"]
)
def test_a_next_job_that_dies_after_it_served_is_replaced_while_the_old_one_is_there(
    job: Job, word: str
) -> None:
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    job.door.open, at = 1, NOW + 130
    job.wanted()
    if word == "over":
        job.look(at)
        assert job.wanted() == ["expected"]
        (job.hands / "over").write_text("4\n")
    else:
        (job.output / "logs" / word).write_text("137\nit was killed\n")
    state = job.look(at + 1)
    assert (state.phase, state.address) == ("serving", None)
    assert job.door.told[-1] == "keep", "what comes is answered here again"
    assert str(state.problem).startswith("the next job 4 has ended: ")
    found = chain_said(job.chain)[2]
    assert ".serves" not in found and found[".died"] == "4"
    job.look(at + 12)
    assert job.wanted() == ["submit"]
    with (job.chain / "jobs").open("a") as file:
        file.write("2 client 5\n")
    (job.hands / "submitted").write_text("0\n")
    job.look(at + 13)
    assert job.look(at + 14).phase == "waiting", "the door of the dead one is not asked"
    with (job.chain / "jobs").open("a") as file:
        file.write(f"2 .serves {NEXT}\n")
    assert job.look(at + 15).phase == "handing_over"
    assert job.door.told[-1] == f"forward {NEXT}"


def test_next_jobs_that_have_successors_of_their_own_are_not_replaced(job: Job) -> None:
    """A part of them may have ended since it came too late: those that come after them serve."""
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    job.door.open, at = 1, NOW + 130
    with (job.chain / "jobs").open("a") as file:
        file.write("3 client 9\n")
    (job.output / "logs" / "4.rc").write_text("1\nanother has the storage\n")
    assert job.look(at).phase == "handing_over"
    assert chain_said(job.chain)[2][".serves"] == NEXT


def test_a_next_job_that_dies_when_the_old_engine_has_ended_is_replaced_all_the_same(
    job: Job,
) -> None:
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    job.look(NOW + 70)
    assert job.look(NOW + 71).phase == "handed_over"
    job.wanted()
    (job.output / "logs" / "3.rc").write_text("137\nit was killed\n")
    assert job.look(NOW + 72).phase == "serving"
    job.look(NOW + 83)
    assert job.wanted() == ["submit"]


def test_a_next_job_that_has_ended_as_it_was_told_to_is_not_replaced(job: Job) -> None:
    """Nobody asks the deployment any more, say."""
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    for ended in ("3", "4"):
        (job.output / "logs" / f"{ended}.rc").write_text("0\nidle for 30 minutes\n")
    assert job.look(NOW + 70).phase == "handing_over"


def test_the_old_engine_stays_while_nobody_answers_at_the_next_door(job: Job) -> None:
    """Its node is lost, and nobody knows it yet."""
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    job.healthy.discard(NEXT)
    for second in range(5):
        assert job.look(NOW + 70 + second).phase == "handing_over"
    ends = job.course.state.ends
    job.look(ends - 20)
    assert job.door.told == [f"forward {NEXT}"], "nobody is sent there"
    job.healthy.add(NEXT)
    assert job.look(ends - 19).phase == "handed_over"
    assert job.door.told[-1] == f"redirect {NEXT}"


def test_what_the_door_does_not_do_at_once_it_is_told_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAProxy, or a file system, does not answer for a moment as the next job has died."""
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    (job.output / "logs" / "4.rc").write_text("137\nit was killed\n")

    def silent() -> None:
        raise OSError("timed out")

    with monkeypatch.context() as patched:
        patched.setattr(job.door, "keep", silent)
        with pytest.raises(OSError, match="timed out"):
            job.look(NOW + 70)
    assert job.course.state.phase == "handing_over"
    assert job.look(NOW + 71).phase == "serving"
    assert job.door.told[-1] == "keep"


def test_what_waits_for_an_engine_that_is_lost_does_not_keep_the_job_beyond_its_end(
    job: Job,
) -> None:
    test_new_requests_go_to_the_next_door_once_the_model_answers_there(job)
    job.door.open, ends = 1, job.course.state.ends
    assert job.look(ends).phase == "handing_over", "its engine answers to the end"
    job.door.up = False
    assert job.look(ends - 1).phase == "handing_over", "it may come again"
    assert job.look(ends).phase == "handed_over"
    job.look(ends + 1)
    assert {"end", "relieve"} <= set(job.wanted())


def test_a_script_that_says_nothing_of_the_next_jobs_is_told_again(job: Job) -> None:
    """There was no room for its answer, as it was."""
    job.look(NOW)
    job.look(NOW + 60)
    assert job.wanted() == ["submit"]
    job.look(NOW + 119)
    assert job.wanted() == []
    job.look(NOW + 121)
    assert job.wanted() == ["submit"]
    job.submitted(NOW + 122)
    assert job.course.state.phase == "submitted"


def test_what_is_refused_is_said_and_tried_again_while_there_is_time(job: Job) -> None:
    job.look(NOW)
    job.look(NOW + 60)
    (job.hands / "submitted").write_text("1\nQOSMaxSubmitJobPerUserLimit\n")
    state = job.look(NOW + 61)
    assert (state.phase, state.problem) == ("serving", "QOSMaxSubmitJobPerUserLimit")
    job.wanted()
    job.look(NOW + 85)
    assert job.wanted() == []
    job.look(NOW + 95)
    assert job.wanted() == ["submit"], "after a quarter of the time that is left"


def test_a_next_job_that_has_ended_is_submitted_again(job: Job) -> None:
    job.look(NOW)
    job.look(NOW + 60)
    job.wanted()
    job.submitted(NOW + 61)
    (job.output / "logs" / "3.rc").write_text("1\nno such model\n")
    state = job.look(NOW + 62)
    assert (state.phase, state.successor) == ("serving", None)
    assert state.problem == "the next job 3 has ended: no such model"
    job.look(NOW + 80)
    assert job.wanted() == ["submit"]
    job.submitted(NOW + 81)
    job.look(NOW + 82)
    job.look(NOW + 95)
    assert job.wanted() == [], "of what ends each time, not too many jobs are submitted"
    job.look(NOW + 103)
    assert job.wanted() == ["submit"]


def test_a_next_job_that_was_cancelled_in_the_queue_is_submitted_again(job: Job) -> None:
    """It leaves no word: the scheduler is asked, also once the engine has begun."""
    job.look(NOW)
    job.look(NOW + 60)
    job.submitted(NOW + 61)
    job.begin("3", NOW + 62)
    job.look(NOW + 62)
    assert "expected" in job.wanted()
    (job.hands / "over").write_text("\n")
    assert job.look(NOW + 63).phase == "waiting"
    job.look(NOW + 122)
    assert job.wanted() == ["expected"]
    (job.hands / "over").write_text("2\n4\n")
    state = job.look(NOW + 123)
    assert state.phase == "serving"
    assert state.problem == (
        "the next job 4 has ended: it was cancelled before it began, or its node has failed"
    )
    job.look(NOW + 134)
    assert job.wanted() == ["submit"]


def test_how_long_nobody_will_answer_is_said_while_the_next_jobs_wait(job: Job) -> None:
    job.look(NOW)
    job.look(NOW + 60)
    job.submitted(NOW + 61)
    job.wanted()
    job.look(NOW + 130)
    assert job.wanted() == ["expected"]
    (job.hands / "expected").write_text(f"{int(NOW) + 500}\n")
    state = job.look(NOW + 131)
    assert state.expected == NOW + 600, "100 s after it begins"
    assert state.dark_s == NOW + 600 - state.ends


def test_the_last_job_has_none_after_it_and_the_time_ends_the_deployment(job: Job) -> None:
    job.another(max_jobs=1)
    job.look(NOW)
    assert job.look(NOW + 190).submit_at is None
    job.another(lasts=100)
    job.look(NOW)
    assert job.wanted() == []
    job.look(NOW + 100)
    assert job.wanted() == ["stop"]
    assert chain_said(job.chain)[1][".until"] == str(int(NOW) + 100)


@pytest.mark.parametrize("number", [1, 2])
def test_what_cannot_be_read_for_a_moment_makes_no_deployment_last_longer(
    job: Job, number: int
) -> None:
    jobs, kept = job.chain / "jobs", job.chain / "kept"
    jobs.write_text(f"1 .until {int(NOW) + 100}\n{number} .serves {HERE}\n")
    job.another(lasts=1000, job=number)
    if number == 1:
        job.look(NOW)
    jobs.rename(kept)
    job.look(NOW + 1)
    assert ".until" not in chain_said(job.chain).get(1, {})
    kept.rename(jobs)
    job.look(NOW + 100)
    assert "stop" in job.wanted()


def test_begun_again_it_goes_on_with_the_jobs_that_are_submitted(job: Job) -> None:
    job.look(NOW)
    job.look(NOW + 60)
    job.submitted(NOW + 61)
    job.wanted()
    job.another()
    for second in range(3):
        job.look(NOW + 62 + second)
    assert job.course.state.phase == "submitted"
    assert "submit" not in job.wanted()
    assert chain_said(job.chain)[1][".ready"] == "100", "it is not measured twice"


def test_one_job_at_a_time_says_how_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "handover.json"
    before, after = StateFile(path), StateFile(path)
    old, new = State(1, None, ends=100), State(2, None, ends=200)
    before.write(old, 50)
    after.write(new, 50)
    assert json.loads(path.read_text())["job"] == 1
    old.phase = "handed_over"
    before.write(old, 51)
    after.write(new, 51)
    old.problem = "late"
    before.write(old, 52)
    assert json.loads(path.read_text())["job"] == 2
    old.phase = "serving"
    before.write(old, 53)
    assert json.loads(path.read_text())["job"] == 1, "the next one is lost"


@pytest.mark.parametrize(
    ("job_end", "began", "limit", "end"),
    [(1000, 700.0, 300, 985), (1000, 690.0, 300, 975), (9000, None, 3600, 8850)],
)
def test_a_job_ends_before_what_ends_it(
    job_end: int, began: float | None, limit: int, end: int
) -> None:
    assert end_of(job_end, began, limit) == end


def test_open_answers_have_as_long_as_the_longest_took() -> None:
    assert [drain_of(seconds, 3600) for seconds in (0, 45.5, 5000)] == [30, 46, 900]
    assert longest({1: {".ready": "7"}, 2: {".ready": "9"}, 3: {".ready": "x"}}, ".ready") == 9


def test_who_follows_is_at_the_next_door_before_the_old_one_sends_everybody_away() -> None:
    assert SLACK_S > SOON_S


# --- what a recipe asks for ----------------------------------------------------------------------


def asked(**infrastructure: object) -> Recipe:
    job = {"service": {"model": "tiny"}, "infrastructure": infrastructure}
    return Recipe.model_validate({"job": job})


SHORT = [Partition("gpu", True, True, False, 8, 7200.0), Partition("cpu", False, False, True, 8)]


def test_a_time_beyond_the_partitions_limit_makes_jobs_of_that_limit() -> None:
    site = Site.model_validate({"name": "x", "scheduler": "slurm"})
    recipe, lasting = in_jobs(asked(time="3-00:00:00"), site, SHORT)
    assert recipe.time_seconds == 7200
    assert lasting is not None
    assert (lasting.lasts_s, lasting.until) == (3 * 86400, None)
    recipe, lasting = in_jobs(asked(time="01:00:00"), site, SHORT)
    assert (recipe.time_seconds, lasting) == (3600, None)


def test_an_hour_of_one_digit_is_one_and_a_year_of_no_clock_is_refused() -> None:
    site = Site.model_validate({"name": "x", "scheduler": "slurm"})
    _, early = in_jobs(asked(until="2099-2-4T8:00"), site, SHORT)
    assert early == in_jobs(asked(until="2099-02-04T08:00"), site, SHORT)[1]
    with pytest.raises(ValidationError, match="must be a time like"):
        asked(until="0001-01-01T00:00")


@pytest.mark.parametrize(
    ("infrastructure", "sentence"),
    [
        ({"max_jobs": 3}, "job.infrastructure.max_jobs bounds jobs that follow one another"),
        ({"until": "2020-01-01T08:00"}, "which has passed"),
        (
            {"until": "stopped", "gpu_hours": 0.5},
            "is 0.5, but one job of 01:00:00 takes 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(infrastructure: dict[str, object], sentence: str) -> None:
    site = Site.model_validate({"name": "x", "scheduler": "slurm"})
    with pytest.raises(UsageError, match=sentence):
        recipe, lasting = in_jobs(asked(**infrastructure), site, SHORT)
        bounded(lasting, recipe, 1, Notes({}, {}))


def test_gpu_hours_for_three_jobs_are_three_jobs() -> None:
    site = Site.model_validate({"name": "x", "scheduler": "slurm"})
    recipe, lasting = in_jobs(asked(until="stopped", time="00:12:00", gpu_hours=0.6), site, SHORT)
    bound = bounded(lasting, recipe, 1, Notes({}, {}))
    assert bound is not None and bound.max_jobs == 3


# --- what is recorded, and shown -----------------------------------------------------------------


def recorded(folder: Path, engine: str, **endpoints: list[str]) -> Record:
    output = OutputDir(folder / "output")
    output.prepare()
    record = create_record(
        output.path, "demo-1124-120000-aaaa", {"site": SITE, "chain": {"job": 1}}
    )  # type: ignore[typeddict-item]
    record.add_job(engine, "1", f"{record.id}.{engine}")
    record.add_job("client", "2", f"{record.id}.client")
    record.update(state="ready", endpoints={"client": HERE, "ollama": [], **endpoints})
    chain_folder(output.path, record.id).mkdir()
    return record


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return recorded(tmp_path, "ollama")


def test_the_jobs_that_serve_are_the_deployments(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = OutputDir(record.path.parent.parent)
    jobs = Chain(output.path, record.id).folder / "jobs"
    jobs.write_text(f"1 client 2\n1 ollama 1\n1 .serves {HERE}\n2 ollama 3\n2 client 4\n")
    four = Jobs(j1="RUNNING", j2="RUNNING", j3="RUNNING", j4="PENDING")
    assert look(record, output, monkeypatch, four) == "ready"
    assert record.jobs == {"ollama": "1", "client": "2"}, "the next ones do not serve yet"
    (output.path / "client_ip_4.txt").write_text("10.0.0.2:5001\n")
    with jobs.open("a") as file:
        file.write(f"2 .serves {NEXT}\n")
    assert look(record, output, monkeypatch, four) == "ready"
    assert (record.jobs, record.client) == ({"ollama": "3", "client": "4"}, NEXT)


def test_the_jobs_before_are_the_deployments_again_if_the_next_ones_die(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_the_jobs_that_serve_are_the_deployments(record, monkeypatch)
    output = OutputDir(record.path.parent.parent)
    (output.path / "client_ip_2.txt").write_text("10.0.0.1:5000\n")
    jobs = Chain(output.path, record.id).folder / "jobs"
    with jobs.open("a") as file:
        file.write("2 .serves -\n2 .died 4\n")
    now = Jobs(j1="RUNNING", j2="RUNNING", j3="RUNNING", j4="FAILED")
    assert look(record, output, monkeypatch, now) == "ready"
    assert (record.jobs, record.client) == ({"ollama": "1", "client": "2"}, HERE)
    with jobs.open("a") as file:
        file.write("2 client 5\n")
    assert look(record, output, monkeypatch, now) == "ready"
    assert record.jobs["client"] == "2", "the one that replaces it does not serve yet"
    (output.path / "client_ip_5.txt").write_text("10.0.0.2:5001\n")
    with jobs.open("a") as file:
        file.write(f"2 .serves {NEXT}\n")
    now = Jobs(j1="RUNNING", j2="RUNNING", j3="RUNNING", j5="RUNNING")
    assert look(record, output, monkeypatch, now) == "ready"
    assert (record.jobs, record.client) == ({"ollama": "3", "client": "5"}, NEXT)


def test_a_deployment_whose_next_jobs_died_and_that_had_no_others_has_failed(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_the_jobs_that_serve_are_the_deployments(record, monkeypatch)
    output = OutputDir(record.path.parent.parent)
    with (Chain(output.path, record.id).folder / "jobs").open("a") as file:
        file.write("2 .serves -\n2 .died 4\n")
    over = Jobs(j1="FAILED", j2="FAILED", j3="FAILED", j4="FAILED")
    assert look(record, output, monkeypatch, over) == "failed"


def test_a_record_of_another_engine_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has endpoints of Ollama's all the same: none."""
    record = recorded(tmp_path, "vllm", vllm=[HERE])
    output = OutputDir(record.path.parent.parent)
    jobs = Chain(output.path, record.id).folder / "jobs"
    jobs.write_text(f"1 .serves {HERE}\n2 vllm 3\n2 client 4\n2 .serves {NEXT}\n")
    (output.path / "client_ip_4.txt").write_text("10.0.0.2:5001\n")
    look(record, output, monkeypatch, Jobs(j3="RUNNING", j4="RUNNING"))
    (found,) = load_records(output.path)
    assert (found.client, found.endpoints["ollama"], found.endpoints["vllm"]) == (NEXT, [], [])


def test_dark_is_not_ended(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs before have ended, and the next ones wait: they are the deployment's."""
    output = OutputDir(record.path.parent.parent)
    jobs = Chain(output.path, record.id).folder / "jobs"
    jobs.write_text(f"1 .serves {HERE}\n2 ollama 3\n2 client 4\n")
    jobs_now = Jobs(j1="TIMEOUT", j2="TIMEOUT", j3="PENDING", j4="PENDING")
    assert look(record, output, monkeypatch, jobs_now) == "starting"
    assert record.jobs == {"ollama": "3", "client": "4"}


@pytest.mark.parametrize("disk_is_full", [True, False])
def test_no_room_for_a_word_keeps_no_job_alive(
    record: Record, monkeypatch: pytest.MonkeyPatch, disk_is_full: bool
) -> None:
    """The jobs that serve, and the one that waits behind them, are cancelled all the same."""
    output = OutputDir(record.path.parent.parent)
    jobs = Jobs(j1="RUNNING", j2="RUNNING", j3="PENDING")
    jobs.names = {"3": f"{record.id}.client"}
    folder = Chain(output.path, record.id).folder
    folder.rmdir()
    folder.touch()  # so that no file can be made in it
    if disk_is_full:

        def full(*_: object) -> None:
            raise FileError("cannot write it: No space left on device")

        monkeypatch.setattr(records, "write_atomically", full)
        with pytest.raises(FileError, match="No space"):
            stop(record, jobs, output)
    else:
        stop(record, jobs, output)
        assert record.state == "stopped"
    assert sorted(jobs.cancelled) == ["1", "2", "3"]


def test_status_says_how_the_hand_over_stands(record: Record) -> None:
    record.note(handover={"job": 1, "ends": 1000, "phase": "waiting", "dark_s": 90,
                          "successor": {"client": "4"}, "problem": None})  # fmt: skip
    (line,) = handover_lines([record])
    assert "the next one 4 loads its model; dark for 00:01:30 then" in line


def test_status_says_of_the_last_job_that_it_is_the_last(record: Record) -> None:
    record.note(handover={"job": 2, "ends": 1000, "phase": "serving", "submit_at": None})
    (line,) = handover_lines([record])
    assert line.endswith(", none comes after it")


# --- the script ----------------------------------------------------------------------------------

HANDS = """
. lib/service.sh
. lib/chain.sh
. lib/handover.sh
fail() { echo "client: $*" >&2; exit 1; }
job_over() { [ "$1" = "$ENDED" ]; }
jobs_named() { echo "$NAMED"; }
cancel_jobs() { echo "cancel $*" >>"$OUTPUT/said"; }
tell_jobs() { echo "tell $*" >>"$OUTPUT/said"; }
submit_script() {
  echo "submit [$1] [$2] ${*:3}" >>"$OUTPUT/said"
  [ "${3##*/}" != "$REFUSED" ] || { echo "sbatch: error: not now" >&2; return 1; }
  echo "$((100 + $(wc -l <"$OUTPUT/said")))"
}
OUTPUT=$1 PROXY_FOLDER=$1 JOB_ID=7 FULL_JOB_ID=7 SERVICE=client ENGINE_SERVICE=ollama CHILDREN=()
ENDED=${ENDED-} NAMED=${NAMED-} REFUSED=${REFUSED-}
CHAIN_SCRIPTS=$1/ID CHAIN_SERVICES=(ollama monitoring)
JOBS=([ollama]=5 [monitoring]=6)
begin_chain "$1/chain"
"""


def hands(folder: Path, script: str, **told: str) -> str:
    """What is printed by the job's script that does so much."""
    (folder / "logs").mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "-c", HANDS + script, "bash", str(folder)], env={**os.environ, **told},
        capture_output=True, text=True, timeout=60, cwd=PROJECT,
    )  # fmt: skip
    said = folder / "said"
    return done.stdout + done.stderr + (said.read_text() if said.exists() else "")


def test_the_same_scripts_are_submitted_and_nobody_is_waited_for(tmp_path: Path) -> None:
    said = hands(tmp_path, "say_when_submitted").splitlines()
    at = f"{tmp_path}/ID"
    assert said == [f"submit [] [] {at}.ollama.sh", f"submit [] [101] {at}.client.sh --job 2"]
    assert (tmp_path / "submitted").read_text() == "0\n"
    found = chain_said(tmp_path / "chain")[2]
    assert (found["ollama"], found["client"]) == ("101", "102")


def test_what_was_submitted_before_it_was_refused_is_not_submitted_again(tmp_path: Path) -> None:
    hands(tmp_path, "say_when_submitted", REFUSED="ID.client.sh")
    assert "not now" in (tmp_path / "submitted").read_text()
    said = hands(tmp_path, "say_when_submitted").splitlines()
    assert [line for line in said if "ollama" in line] == [f"submit [] [] {tmp_path}/ID.ollama.sh"]


def test_a_job_that_was_taken_though_nobody_heard_it_is_found_by_its_name(tmp_path: Path) -> None:
    hands(tmp_path, "say_when_submitted", REFUSED="ID.ollama.sh")
    hands(tmp_path, "say_when_submitted", NAMED="55")
    assert chain_said(tmp_path / "chain")[2]["ollama"] == "55"


def test_one_that_has_ended_is_submitted_anew_with_who_asks_it(tmp_path: Path) -> None:
    hands(tmp_path, "say_when_submitted")
    said = hands(tmp_path, "say_when_submitted", ENDED="101").splitlines()[2:]
    assert said == [
        f"submit [] [] {tmp_path}/ID.ollama.sh",
        "cancel 102",
        f"submit [] [103] {tmp_path}/ID.client.sh --job 2",
    ]


def test_a_client_that_does_not_know_the_newest_engine_is_replaced_by_the_next_try(
    tmp_path: Path,
) -> None:
    """Slurm was away when the client's job was to be cancelled, and another one to be submitted."""
    hands(tmp_path, "say_when_submitted")
    hands(tmp_path, "say_when_submitted", ENDED="101", REFUSED="ID.client.sh")
    said = hands(tmp_path, "say_when_submitted").splitlines()
    replaced = ["cancel 102", f"submit [] [103] {tmp_path}/ID.client.sh --job 2"]
    assert said[-4:] == [*replaced, *replaced], "the first time it was refused"
    assert hands(tmp_path, "say_when_submitted").splitlines() == said, "it knows it now"


def test_one_that_has_ended_and_is_queued_again_does_not_run_beside_its_substitute(
    tmp_path: Path,
) -> None:
    hands(tmp_path, "say_when_submitted")
    (tmp_path / "logs" / "101.rc").write_text("143\nit was told to end\n")
    said = hands(tmp_path, 'job_over() { [ "$1" = 101 ]; }; say_when_submitted').splitlines()
    assert said[2:4] == ["cancel 101", f"submit [] [] {tmp_path}/ID.ollama.sh"]


def test_the_scheduler_is_asked_whether_the_next_jobs_have_ended(tmp_path: Path) -> None:
    script = "say_when_submitted; expected_start() { echo 12; }; say_expected"
    hands(tmp_path, script, ENDED="102")
    assert (tmp_path / "over").read_text() == "102\n"
    assert (tmp_path / "expected").read_text() == "12\n"
    hands(tmp_path, "expected_start() { :; }; say_expected")
    assert (tmp_path / "over").read_text().split() == []


def test_told_to_stop_it_submits_nothing(tmp_path: Path) -> None:
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "stop").touch()
    assert hands(tmp_path, "say_when_submitted") == ""
    assert "told to end" in (tmp_path / "submitted").read_text()


def test_the_engine_is_told_why_it_ends_and_one_writer_follows_the_other(tmp_path: Path) -> None:
    script = "touch $PROXY_FOLDER/want.relieve; look_at_handover; wait"
    said = sorted(hands(tmp_path, script).splitlines(), reverse=True)
    assert sorted(said[0].split()) == ["5", "6", "tell"]
    assert said[1] == f"submit [6] [] {tmp_path}/ID.monitoring.sh"
    assert (tmp_path / "logs" / "5.told").read_text() == "its successor serves\n"


def test_monitoring_is_submitted_once_also_if_the_next_jobs_are_replaced(tmp_path: Path) -> None:
    script = "touch $PROXY_FOLDER/want.relieve; look_at_handover; wait;"
    said = hands(tmp_path, script + script)
    assert said.count("monitoring.sh") == 1, said


def test_monitoring_that_was_submitted_after_the_client_had_begun_is_told_and_followed(
    tmp_path: Path,
) -> None:
    script = "note_chain 1 monitoring 9; touch $PROXY_FOLDER/want.relieve; look_at_handover; wait"
    said = sorted(hands(tmp_path, script).splitlines(), reverse=True)
    assert sorted(said[0].split()) == ["5", "9", "tell"]
    assert said[1] == f"submit [9] [] {tmp_path}/ID.monitoring.sh"


def test_the_next_qdrant_waits_for_ours_which_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    begin = "CHAIN_SERVICES=(ollama qdrant) JOBS=([ollama]=5 [qdrant]=6)\n"
    said = hands(tmp_path, f"{begin}say_when_submitted").splitlines()
    at = f"{tmp_path}/ID"
    assert said[1:] == [
        f"submit [] [] {at}.qdrant.sh --after 6",
        f"submit [] [101 102] {at}.client.sh --job 2",
    ]
    wanted = begin + "touch $PROXY_FOLDER/want.{}; look_at_handover; wait"
    said = hands(tmp_path, wanted.format("release")).splitlines()
    assert said[-1] == "tell 6"
    assert (tmp_path / "logs" / "6.told").read_text() == "its successor serves\n"
    (tmp_path / "logs" / "6.rc").write_text("0\nits successor serves\n")
    said = hands(tmp_path, wanted.format("relieve")).splitlines()
    assert said[-2:] == ["cancel 6", "tell 5"], "one that has ended may be queued again"


@pytest.mark.parametrize(
    ("left_s", "said"), [(60, "waits\ntold\nends\n"), (5, "ends\n")], ids=["time", "no time"]
)
def test_what_cannot_be_told_to_end_holds_this_job_only_while_there_is_time(
    tmp_path: Path, left_s: int, said: str
) -> None:
    """Slurm takes a minute for a job whose node was lost."""
    script = f"""
    tell_jobs() {{ until [ -e {tmp_path}/go ]; do sleep 0.01; done; }}
    submit_monitoring() {{ :; }}
    JOB_END=$(($(now) + {left_s}))
    trap 'echo ends; touch {tmp_path}/go; wait' EXIT
    touch $PROXY_FOLDER/want.{{relieve,end}}
    look_at_handover
    echo waits
    touch {tmp_path}/go; wait
    echo told
    look_at_handover
    """
    assert hands(tmp_path, script) == said


def test_the_deployments_end_is_the_end_of_all_its_jobs(tmp_path: Path) -> None:
    said = hands(tmp_path, "touch $PROXY_FOLDER/want.stop; look_at_handover; echo not reached")
    assert sorted(said.split()) == ["5", "6", "cancel"]
    assert "it was wanted until then" in (tmp_path / "logs" / "6.told").read_text()
