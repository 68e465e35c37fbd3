"""A deployment that is watched: a query, a benchmark, an engine that dies, its end."""

import json
import os
import signal
import subprocess

import pytest
from events import PATIENCE_S, until
from place import SMALL, http
from watching import Watcher


@pytest.fixture(scope="module")
def deployed(shared_place):
    return shared_place, shared_place.deploy(shared_place.recipe(model=str(SMALL)))


def in_flight(state):
    return sum(one.in_flight for one in state.replicas)


def tokens(state):
    return 0 if state.series is None else sum(state.series.tokens_per_s)


def test_it_is_seen_how_a_deployment_lives_and_dies(deployed):
    place, record = deployed
    client = record["endpoints"]["client"]
    watcher = Watcher(place, record)
    command = place.command("--watch", record["id"], "--json")
    told = place.folder / "events"  # no pipe, which would be full before it is read
    with told.open("w") as file:
        events = subprocess.Popen(command, stdout=file, env=place.environment)
    try:
        until(told.read_text, what="the first event")  # it has come before anything happens
        until(lambda: watcher.state is not None)
        first = watcher.state
        assert first.deployment.state == "healthy"
        assert {job.service: job.state for job in first.jobs} == {
            "ollama": "RUNNING", "client": "RUNNING",
        }  # fmt: skip
        assert all(job.ends > first.time for job in first.jobs)
        # What an engine says of itself is waited for only briefly: it may come a look later.
        until(lambda: watcher.state.replicas[0].device, what="where the model sits")
        (replica,) = watcher.state.replicas
        assert (replica.device, replica.quantization) == ("cpu", "Q4_1")

        chat = {"messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": 200}

        def seen_in_flight():
            """A look is taken each second, and a real model may end an answer before it: then it
            is asked for another one."""
            answer = http("POST", f"{client}/v1/chat/completions", {**chat, "stream": False})
            assert answer[0] == 200
            return watcher.saw(in_flight)

        until(seen_in_flight, what="a request in flight")
        until(lambda: tokens(watcher.state) > 0, what="tokens in the series")

        run = {"n_clients": 2, "n_requests_per_client": 10, "prompt": "Hi", "num_predict": 20}
        status, done = http("POST", f"{client}/benchmark", run)
        assert status == 200
        until(lambda: watcher.saw(lambda state: state.benchmark and state.benchmark.done == 20
                                  and state.benchmark.run == done["id"]))  # fmt: skip
        assert watcher.saw(lambda state: state.benchmark and state.benchmark.state == "running")

        job = json.loads((place.output / "local_jobs" / f"{number(record, 'ollama')}.json")
                         .read_text())  # fmt: skip
        os.kill(job["runner_pid"], signal.SIGTERM)
        until(lambda: watcher.state.deployment.state == "unhealthy")
        # Its job ends after it, and each part of the state is told for itself.
        until(lambda: any(job.service == "ollama" and job.state in ("FAILED", "CANCELLED")
                          for job in watcher.state.jobs), what="its job's end")  # fmt: skip
        until(lambda: watcher.state.warnings, what="a warning")

        assert place.orch("--stop", record["id"]).returncode == 0
        assert watcher.over.wait(PATIENCE_S)
        assert events.wait(PATIENCE_S) == 0
        said = [json.loads(line) for line in told.read_text().splitlines()]
        assert said[0]["event"] == "state"
        assert {"jobs", "replicas", "benchmark"} <= {one["event"] for one in said}
        assert said[-1]["event"] == "ended"
        assert said[-1]["data"]["state"] == "stopped"
    finally:
        watcher.close()
        events.kill()
        events.wait()


def test_who_ends_watching_leaves_the_deployment_alone(deployed):
    place, _ = deployed
    record = place.deploy(place.recipe())
    watching = place.start("--watch", record["id"])
    log = place.folder / "orch.log"
    until(lambda: "is healthy" in log.read_text())
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE_S) == 0
    assert f"{record['id']} goes on" in log.read_text()
    assert http("GET", record["endpoints"]["client"] + "/health")[0] == 200
    assert place.orch("--stop", record["id"]).returncode == 0


def number(record, service):
    return record["jobs"][service]["id"]
