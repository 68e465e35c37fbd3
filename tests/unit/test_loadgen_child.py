"""How the client service starts the load generator: what is asked of it, as its options."""

import json
import os
import threading

import pytest
from events import PATIENCE_S, until

from contracts.knobs import DEFAULT_PROMPT
from contracts.load import LoadPerClient
from loadgen.load import child_process


def job_of(given, model="m", **more):
    """The run that a recipe or a body with these keys asks for."""
    return LoadPerClient.model_validate(given).run(model, **more)


URLS = ["http://a:1", "http://b:2"]
ALWAYS = ["--url=http://a:1", "--url=http://b:2", "--model=m"]

JOBS = {
    "nothing": ({}, ["--clients=1", "--requests=1"]),
    "closed": (
        {"n_clients": 4, "n_requests_per_client": 5, "num_predict": 6, "seed": 7, "warmup": 0},
        ["--clients=4", "--requests=20", "--num-predict=6", "--seed=7", "--warmup=0"],
    ),
    "closed, for a time": (
        {"n_clients": 4, "duration_seconds": 1.5},
        ["--clients=4", "--duration=1.5"],
    ),
    "open": (
        {"rate": 50, "arrivals": "constant", "max_concurrency": 9, "n_requests": 100},
        ["--rate=50", "--arrivals=constant", "--max-concurrency=9", "--requests=100"],
    ),
    "open, for a time": (
        {"rate": 0.5, "duration_seconds": 60},
        ["--rate=0.5", "--arrivals=poisson", "--duration=60"],
    ),
    "with retrieval": (
        {"retrieval": True},
        ["--clients=1", "--requests=1"],
    ),
    "limits": (
        {"timeout_seconds": 9.5, "goodput": {"ttft": 0.5, "itl": 0.05}, "processes": 2},
        [
            *("--clients=1", "--requests=1", "--timeout=9.5"),
            *("--goodput=ttft:0.5,itl:0.05", "--processes=2"),
        ],
    ),
}


@pytest.mark.parametrize(("given", "options"), JOBS.values(), ids=JOBS)
def test_what_is_asked_of_the_service_is_asked_of_the_load_generator(given, options):
    retrieval = given.get("retrieval", False)
    load = {name: value for name, value in given.items() if name != "retrieval"}
    asked = child_process.arguments(job_of(load, retrieval=retrieval), URLS)
    target = "--retrieval" if retrieval else "--api=ollama"
    assert asked[:4] == [*ALWAYS, target]
    assert sorted(asked[4:]) == sorted(options)


def test_the_api_of_the_servers_is_passed_on():
    assert "--api=openai" in child_process.arguments(job_of({}, api="openai"), URLS)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Start a run of what is given; its command line. The load generator is not run."""

    def start(given, context=None):
        def note(command, **_):
            raise OSError(*command)

        monkeypatch.setattr(child_process.subprocess, "Popen", note)
        with pytest.raises(OSError) as raised:
            child_process.ChildRun("r", tmp_path / "r", job_of(given), URLS, context)
        return list(raised.value.args)

    return start


def test_a_prompt_goes_by_a_file_whatever_it_is(started, tmp_path):
    assert f"--prompts={tmp_path / 'r' / 'prompts.jsonl'}" in started({"prompt": "--out x\0\n"})
    assert json.loads((tmp_path / "r" / "prompts.jsonl").read_text()) == {"prompt": "--out x\0\n"}


def test_without_a_prompt_it_is_the_load_generators_own(started, tmp_path):
    started({})
    prompts = (tmp_path / "r" / "prompts.jsonl").read_text()
    assert json.loads(prompts) == {"prompt": DEFAULT_PROMPT}


def test_built_in_prompts_of_a_length_are_the_load_generators_to_make(started):
    command = started({"input_tokens": 300})
    assert "--input-tokens=300" in command
    assert not any(option.startswith("--prompts") for option in command)


def test_what_is_known_of_the_servers_goes_with_it(started, tmp_path):
    assert f"--context={tmp_path}" in started({}, tmp_path)
    assert not any(option.startswith("--context") for option in started({}))


def test_a_job_is_found_again_as_it_was_also_one_of_before(started, tmp_path):
    job = {"rate": 2, "n_requests": 3, "goodput": {"ttft": 1}}
    started(job)
    assert child_process.read_job(tmp_path / "r") == job_of(job)
    before = {"model": "m", "prompt": "p", "clients": 1, "requests": 1, "num_predict": None}
    (tmp_path / "r" / "request.json").write_text(json.dumps({**before, "seed": 0, "warmup": 1}))
    assert child_process.read_job(tmp_path / "r") == job_of({"prompt": "p"})


DRAW = """#!/bin/sh
# Stands in for nice, and so for what draws a report of this test: it takes its time.
case "$*" in *{path}*) ;; *) exit ;; esac
echo begins >>{path}/drawn
sleep 0.2
echo ends >>{path}/drawn
"""


def test_reports_of_quick_runs_are_drawn_one_after_another(server, tmp_path, monkeypatch):
    drawn = tmp_path / "drawn"
    (tmp_path / "nice").write_text(DRAW.format(path=tmp_path))
    (tmp_path / "nice").chmod(0o755)
    monkeypatch.setattr(
        child_process, "_drawing", threading.Lock()
    )  # reports of earlier tests may wait
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    urls, job = [f"http://127.0.0.1:{server.port}"], job_of({"n_clients": 1}, "known")
    runs = [child_process.ChildRun(name, tmp_path / name, job, urls) for name in ("a", "b", "c")]
    assert all(run.wait(PATIENCE_S) and run.state == child_process.DONE for run in runs)
    until(lambda: drawn.exists() and len(drawn.read_text().split()) == 6)
    assert drawn.read_text().split() == ["begins", "ends"] * 3
