"""The storage of Qdrant's job, from one job to the next: when the one is told to end, and when the
other opens it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from events import until
from test_deployments import SITE, Jobs, look
from test_handover import NEXT, NOW, FakeDoor, Job

from client.handover.storage import AGAIN_S, RELEASE_S, Storage
from contracts.files import PROJECT
from hpc.deployments.records import create_record, load_records
from hpc.endpoints import OutputDir

# --- when ours is told to end --------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """With Qdrant's job 6, and the next jobs are submitted: 3, 4 and 7."""
    job = Job(tmp_path)
    job.another(qdrant_job="6")
    job.look(NOW)
    job.look(NOW + 60)
    with (job.chain / "jobs").open("a") as file:
        file.write(f"2 qdrant 7\n2 .serves {NEXT}\n")
    job.submitted(NOW + 61)
    job.wanted()
    job.healthy.add(NEXT)
    job.begin("3", NOW + 62)
    return job


def prepared(job: Job) -> None:
    (job.output / "logs" / "7.prepared").touch()


def test_nothing_is_handed_over_before_the_next_qdrant_lacks_only_the_storage(job: Job) -> None:
    state = job.look(NOW + 63)
    assert (state.phase, job.door.told) == ("waiting", [])
    assert state.successor == {"client": "4", "engine": "3", "qdrant": "7"}
    prepared(job)
    assert job.look(NOW + 64).phase == "handing_over"
    assert job.door.told == [f"forward {NEXT}"]


def test_it_ends_once_nobody_asks_it_while_answers_of_the_engine_stay_open(job: Job) -> None:
    prepared(job)
    job.door.open = job.door.retrieving = 1
    for second in range(3):
        job.look(NOW + 64 + second)
    assert job.wanted() == []
    job.door.retrieving = 0
    assert job.look(NOW + 67).phase == "handing_over"
    assert job.wanted() == ["release"]
    job.look(NOW + 68)
    assert job.wanted() == [], "it is told once"


def test_a_next_qdrant_that_has_ended_is_submitted_again(job: Job) -> None:
    (job.output / "logs" / "7.rc").write_text("1\nno such image\n")
    state = job.look(NOW + 63)
    assert (state.phase, state.problem) == ("serving", "the next job 7 has ended: no such image")


def test_who_takes_too_long_is_not_waited_for_and_who_has_not_heard_is_told_again(
    tmp_path: Path,
) -> None:
    door = FakeDoor()
    door.retrieving = 1
    (tmp_path / "logs").mkdir()
    storage = Storage(tmp_path, "6", door.retrievals)
    storage.moved(NOW)
    assert not storage.to_be_told(NOW + RELEASE_S - 1, "7")
    assert storage.to_be_told(NOW + RELEASE_S, "7")
    assert not storage.to_be_told(NOW + RELEASE_S + AGAIN_S - 1, "7")
    assert storage.to_be_told(NOW + RELEASE_S + AGAIN_S, "7")
    (tmp_path / "qdrant_ip_7.txt").write_text("h:1\n")
    assert not storage.to_be_told(NOW + 1000, "7"), "the next one has it"


def test_without_a_qdrant_of_its_own_nobody_is_told(tmp_path: Path) -> None:
    storage = Storage(tmp_path, "", FakeDoor().retrievals)
    assert storage.awaited("") and storage.released
    assert not storage.to_be_told(NOW, "")


# --- when the next one opens it ------------------------------------------------------------------

CLAIM = """
. lib/service.sh
. lib/storage.sh
fail() { echo "$*" >&2; exit 1; }
ask_scheduler() {
  case $1 in job_has_ended) [ "$2" = "$ENDED" ] ;; *) echo "$STATE" ;; esac
}
cancel_jobs() { echo "cancel $*"; }
sleep() { command sleep 0.02; }
OUTPUT=$1 STORAGE=$1/server JOB_ID=7 FULL_JOB_ID='7;c' SERVICE=qdrant TEMPORARY=()
ENDED=${ENDED-} STATE=${STATE-RUNNING}
claim_storage $2
read -r owner <"$STORAGE/job"
echo "owner $owner"
"""


def claim(folder: Path, before: str = "", **told: str) -> subprocess.Popen[str]:
    (folder / "logs").mkdir(exist_ok=True)
    return subprocess.Popen(
        ["bash", "-c", CLAIM, "bash", str(folder), before], env={**os.environ, **told},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT,
    )  # fmt: skip


def owned(folder: Path, owner: str) -> Path:
    """The storage, which is a job's."""
    path = folder / "server" / "job"
    path.parent.mkdir()
    path.write_text(f"{owner}\n")
    return path


def test_the_next_one_waits_until_the_one_before_has_closed_it(tmp_path: Path) -> None:
    path = owned(tmp_path, "6;c")
    waiting = claim(tmp_path, "6;c")
    until((tmp_path / "logs" / "7.prepared").exists, what="it says that it waits")
    time.sleep(0.2)
    assert waiting.poll() is None and path.read_text() == "6;c\n"
    path.unlink()
    said, _ = waiting.communicate(timeout=60)
    assert "waits until job 6;c has closed" in said and said.endswith("owner 7;c\n")


@pytest.mark.parametrize(
    ("told", "words"),
    [({"ENDED": "6"}, ""), ({"STATE": "PENDING"}, "cancel 6\n"), ({"STATE": "REQUEUED"}, "cancel")],
    ids=["node died", "requeued", "being requeued"],
)
def test_one_whose_node_died_keeps_nobody_waiting(
    tmp_path: Path, told: dict[str, str], words: str
) -> None:
    owned(tmp_path, "6")
    said, _ = claim(tmp_path, "6", **told).communicate(timeout=60)
    assert said.endswith("owner 7;c\n") and words in said


def test_one_that_has_ended_says_so_itself(tmp_path: Path) -> None:
    owned(tmp_path, "6")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "6.rc").write_text("0\n\n")
    said, _ = claim(tmp_path, "6").communicate(timeout=60)
    assert said.endswith("owner 7;c\n")


@pytest.mark.parametrize("before", ["", "6"])
def test_who_is_not_followed_is_not_waited_for(tmp_path: Path, before: str) -> None:
    path = owned(tmp_path, "5")
    claimed = claim(tmp_path, before)
    _, why = claimed.communicate(timeout=60)
    assert claimed.returncode == 1 and "job 5 works on" in why
    assert path.read_text() == "5\n"


# --- what others see of it -----------------------------------------------------------------------


def test_the_record_has_where_the_next_qdrant_is_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = OutputDir(tmp_path / "output")
    output.prepare()
    record = create_record(output.path, "demo-1124-120000-aaaa", {"site": SITE})  # type: ignore[typeddict-item]
    for service, job_id in (("ollama", "3"), ("client", "4"), ("qdrant", "7")):
        record.add_job(service, job_id)
    endpoints: dict[str, str | list[str] | None] = {"client": NEXT, "ollama": [], "qdrant": None}
    record.update(state="ready", endpoints=endpoints)
    running = Jobs(j3="RUNNING", j4="RUNNING", j7="RUNNING")
    look(record, output, monkeypatch, running)
    assert record.endpoints["qdrant"] is None
    (output.path / "qdrant_ip_7.txt").write_text("10.0.0.3:6333\n")
    look(record, output, monkeypatch, running)
    (found,) = load_records(output.path)
    assert found.endpoints["qdrant"] == "http://10.0.0.3:6333"
