"""The parts of the live state: jobs, logs, warnings, campaigns, as files tell of them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from client.live.jobs import FRESH_S, Jobs
from client.live.logs import Logs
from client.live.warnings import SOON_S, Seen, warnings_of
from client.live.work import Campaigns
from client.settings import ServiceSettings
from contracts.live.state import LOG_LINES, Engine, Handover, Job, NextJobs

TOKEN = "Ab3" * 14 + "x"  # 43 letters and digits, as those of lib/service.sh


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for name in ("logs", "deployments/d-1.live", "local_jobs"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def jobs(output: Path) -> Jobs:
    settings = ServiceSettings(output, "41", "m", "42", "d-1", output)
    return Jobs(settings, "d-1")


def seen_job(jobs: Jobs, handover: Handover | None = None) -> Job:
    return jobs.all({"ollama": "41"}, handover)[0]


def says(output: Path, *lines: str) -> None:
    (output / "deployments/d-1.live/jobs").write_text("".join(f"{line}\n" for line in lines))


def test_the_scheduler_s_reason_is_told_in_plain_words(output: Path, jobs: Jobs) -> None:
    says(output, "41|PENDING|2026-12-24T08:00:00|N/A||Resources")
    job = seen_job(jobs)
    assert (job.state, job.host) == ("PENDING", None)
    assert job.reason == "waits in the queue: the nodes that it needs are busy"
    assert job.expected == time.mktime((2026, 12, 24, 8, 0, 0, 0, 0, -1))


def test_a_job_that_runs_has_its_node_and_its_end(output: Path, jobs: Jobs) -> None:
    says(output, "41|RUNNING|2026-12-24T08:00:00|2026-12-24T09:00:00|gpu1|None")
    job = seen_job(jobs)
    assert (job.state, job.reason, job.host) == ("RUNNING", "runs", "gpu1")
    assert job.ends is not None and job.began is not None
    assert job.ends - job.began == 3600


def test_what_a_job_says_of_its_own_end_counts_before_the_scheduler(
    output: Path, jobs: Jobs
) -> None:
    says(output, "41|RUNNING|2026-12-24T08:00:00|2026-12-24T09:00:00|gpu1|None")
    (output / "logs/41.rc").write_text("1\nthe service stopped by itself\n")
    job = seen_job(jobs)
    assert (job.state, job.ends) == ("FAILED", None)
    assert job.reason == "has ended with exit code 1: the service stopped by itself"


def test_an_old_word_of_the_scheduler_is_not_believed(output: Path, jobs: Jobs) -> None:
    says(output, "41|PENDING|N/A|N/A||Priority")
    old = time.time() - FRESH_S - 1
    os.utime(output / "deployments/d-1.live/jobs", (old, old))
    (output / "logs/41.started").write_text("gpu1\n")
    assert (seen_job(jobs).state, seen_job(jobs).host) == ("RUNNING", "gpu1")


def test_a_job_of_this_machine_is_known_by_its_runner_s_file(output: Path, jobs: Jobs) -> None:
    told = {"state": "TIMEOUT", "started": 100.0, "time_seconds": 60}
    (output / "local_jobs/41.json").write_text(json.dumps(told))
    job = seen_job(jobs)
    assert (job.state, job.reason, job.ends) == ("TIMEOUT", "reached its time limit", None)


def test_a_successor_is_told_of_and_asked_about(output: Path, jobs: Jobs) -> None:
    handover = Handover(
        job=1, max_jobs=None, phase="submitted", successor=NextJobs(client="52", engine="51")
    )
    jobs.watch({"ollama": "41"}, handover)
    assert (output / "deployments/d-1.live/watched").read_text() == "41 52 51\n"
    says(output, "51|PENDING|N/A|N/A||Priority")
    successor = seen_job(jobs, handover).successor
    assert successor is not None
    assert (successor.id, successor.reason.partition(":")[0]) == ("51", "waits in the queue")
    jobs.rest()
    assert not (output / "deployments/d-1.live/watched").exists()


def test_no_token_is_in_the_end_of_a_log(output: Path) -> None:
    lines = [f"a {TOKEN}", "Authorization: Bearer short-one", "hf_abcdefghijklmnopqrst", "plain"]
    (output / "logs/ollama_41.out").write_text("\n".join(lines))
    (log,) = Logs(output).ends({"ollama": "41"})
    assert log.lines == ("a ***", "Authorization: Bearer ***", "***", "plain")


def test_a_log_is_told_to_its_end_as_it_grows(output: Path) -> None:
    path, logs = output / "logs/ollama_41.out", Logs(output)
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    (log,) = logs.ends({"ollama": "41"})
    assert (len(log.lines), log.lines[-1]) == (LOG_LINES, "line 4999")
    with path.open("a") as file:
        file.write("one more\n")
    (output / "logs/ollama_41.err").write_text("what went wrong\n")
    (log,) = logs.ends({"ollama": "41"})
    assert log.lines[-2:] == ("one more", "what went wrong")
    assert len(log.lines) == LOG_LINES


def test_of_ollama_s_log_what_the_door_looks_at_is_left_out(output: Path) -> None:
    look = '[GIN] 2026/11/30 - 00:58:23 | 200 |  40.01µs |  127.0.0.1 | GET      "/api/version"\n'
    asked = '[GIN] 2026/11/30 - 00:58:23 | 200 |  40.01ms |  127.0.0.1 | POST     "/api/chat"\n'
    (output / "logs/ollama_41.out").write_text(look * 30 + asked + look * 30)
    (log,) = Logs(output).ends({"ollama": "41"})
    assert log.lines == (asked.rstrip("\n"),)


# --- warnings ---


def replica(ok: bool = True, device: str = "gpu") -> Engine:
    return Engine(
        address="gpu1:1", host="gpu1", ok=ok, reason="it is out", device=device,
        in_flight=0, queued=0,
    )  # fmt: skip


def job(ends: float | None = None, state: str = "RUNNING") -> Job:
    return Job(service="ollama", id="41", state=state, reason="runs", ends=ends)


def warned(output: Path, **seen: object) -> list[str]:
    none = {"jobs": [], "replicas": [], "handover": None, "idle": None, "on_gpu": True}
    whole = Seen(**{**none, "output": output, "queued": 0, **seen})  # type: ignore[arg-type]
    found = warnings_of(whole, now=1000.0)
    assert all(one.remedy for one in found)
    return [one.what for one in found]


def test_a_deployment_that_is_well_has_no_warning(output: Path) -> None:
    assert warned(output, jobs=[job(1000 + 2 * SOON_S)], replicas=[replica()]) == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"replicas": [replica(ok=False)]}, "would not answer"),
        ({"replicas": [replica(device="cpu")]}, "though GPUs were asked for"),
        ({"jobs": [job(state="NODE_FAIL")]}, "The ollama job 41"),
        ({"jobs": [job(1000 + SOON_S / 2)]}, "no other takes its place"),
        ({"queued": 2048}, "requests wait at the door"),
        ({"handover": Handover(job=1, max_jobs=2, phase="waiting", dark_s=90)}, "for 90 s"),
        ({"handover": Handover(job=1, max_jobs=2, phase="waiting", problem="QOS.")}, "QOS."),
    ],
)
def test_what_is_wrong_is_told(output: Path, seen: dict[str, object], words: str) -> None:
    (what,) = warned(output, **seen)
    assert words in what


def test_jobs_that_hand_over_end_without_a_warning_but_for_the_last(output: Path) -> None:
    ending = [job(1000 + SOON_S / 2)]
    first, last = (Handover(job=number, max_jobs=2, phase="serving") for number in (1, 2))
    assert warned(output, jobs=ending, handover=first) == []
    assert len(warned(output, jobs=ending, handover=last)) == 1


def test_a_model_that_may_be_on_cpus_is_no_warning(output: Path) -> None:
    assert warned(output, replicas=[replica(device="cpu")], on_gpu=False) == []


# --- campaigns ---


def test_a_campaign_is_known_by_the_deployment_that_it_made(output: Path) -> None:
    folder = output / "campaigns" / "quants"
    folder.mkdir(parents=True)
    entries = [
        {"entry": "planned", "cells": [{}, {}], "repetitions": 3},
        {"entry": "deployed", "id": "d-1", "group": "group 1"},
        {"entry": "measured", "state": "done", "cell": "c", "block": 0},
        {"entry": "measured", "state": "failed", "cell": "c", "block": 1},
    ]
    ledger = folder / "ledger.jsonl"
    ledger.write_text("".join(json.dumps(one) + "\n" for one in entries))
    campaigns = Campaigns(output, "d-1")
    found = campaigns.look()
    assert found is not None
    assert (found.name, found.group, found.done, found.planned) == ("quants", "group 1", 1, 6)
    with ledger.open("a") as file:
        file.write(json.dumps({**entries[2], "block": 2}) + "\n" + '{"half')
    found = campaigns.look()
    assert found is not None and found.done == 2
    assert Campaigns(output, "another").look() is None
