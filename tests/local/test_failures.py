"""What goes wrong ends in one sentence, an exit code, and nothing left behind."""

import json
import os
import pty
import shlex
import shutil
import signal

import pytest
from events import PATIENCE_S, assert_measured
from place import http, wait_for


def assert_failed(place, result, code, *words):
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    for word in words:
        assert word in result.stderr
    place.assert_nothing_left()


def test_wrong_model_fails_with_ollamas_words(place):
    """At once, not at the deadline of half an hour; another model's being there does not count."""
    place.deploy(place.recipe())
    place.stop_all()
    result = place.orch(place.recipe(model="nosuchmodel:1b"), "--site", "local")
    assert_failed(place, result, 4, "cannot pull nosuchmodel:1b: pull model manifest")


def test_model_that_cannot_be_prepared(place):
    result = place.orch(place.recipe(model="nosuchmodel:1b"), "--site", "local", "--prepare")
    assert_failed(place, result, 4, "cannot prepare ollama: Ollama cannot pull nosuchmodel:1b")


def test_ollama_that_dies_while_starting_ends_the_deployment_at_once(place):
    path = place.path_with_ollama("#!/bin/sh\necho 'the last words' >&2\nexit 7\n")
    result = place.orch(place.recipe(), "--site", "local", env={"PATH": path})
    assert_failed(place, result, 4, "[FAILED]", "the last words", "stopped while starting")


def test_model_that_its_owner_deletes_on_disk_is_missed(place):
    record = place.deploy(place.recipe())
    health = record["endpoints"]["client"] + "/health"
    assert http("GET", health)[1]["status"] == "healthy"
    shutil.rmtree(place.output / "ollama_models" / "blobs")
    wait_for(lambda: http("GET", health)[0] == 503, PATIENCE_S)
    assert "somebody has deleted it" in http("GET", health)[1]["ollama"][0]["reason"]


@pytest.mark.parametrize("vendor", ["nvidia", "amd"])
def test_gpus_asked_for_and_not_used_is_a_failure(place, tmp_path, vendor):
    """Whosever they are: none of their programs or drivers is here."""
    site = tmp_path / "site.json"
    site.write_text(json.dumps({"name": "own", "scheduler": "local", "gpu_vendor": vendor}))
    result = place.orch(place.recipe(gpus=1), "--site", site)
    assert_failed(place, result, 4, "sits on cpu: 0.00 of", '"allow_cpu": true')


def test_gpus_may_be_waived(place):
    record = place.deploy(place.recipe(gpus=1, allow_cpu=True))
    assert "sits on cpu" in record["warnings"][0]


def test_wrong_precision_warns_and_fails_on_demand(place):
    record = place.deploy(place.recipe(precision="fp16"))
    assert "the recipe says precision fp16" in record["warnings"][0]
    place.stop_all()
    recipe = place.recipe(precision="fp16", require_precision=True)
    assert_failed(place, place.orch(recipe, "--site", "local"), 4, "precision fp16")


def test_service_that_does_not_start_in_time(place):
    result = place.orch(place.recipe(), "--site", "local", "--start-timeout", "0")
    assert_failed(place, result, 5, "--start-timeout")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_cancels_our_own_jobs(place, signum, code):
    path = place.path_with_ollama("#!/bin/sh\nexec sleep 600\n")  # it is starting when we interrupt
    process = place.start(place.recipe(), "--site", "local", env={"PATH": path})
    wait_for(lambda: "ollama   job local1 has begun" in place.log(), PATIENCE_S, place.log)
    process.send_signal(signum)
    assert process.wait(PATIENCE_S) == code, place.log()
    assert "our own jobs were cancelled" in place.log()
    assert place.records()[0]["state"] == "stopped"
    place.assert_nothing_left()


def test_closed_terminal_loses_nothing(place):
    """A terminal with a shell in it, in the middle of the live table."""
    recipe = place.recipe(n_clients=4, n_requests_per_client=50)
    command = shlex.join(place.command(recipe, "--site", "local"))
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(place.folder)
        os.execve("/bin/bash", ["bash", "-ic", f"{command}; true"], place.environment)
    shown = b""
    while b"requests done" not in shown:
        shown += os.read(terminal, 65536)
    os.close(terminal)
    os.waitpid(process, 0)
    wait_for(
        lambda: not [p for p in place.processes() if "orch.py" in p], PATIENCE_S, place.processes
    )
    result = place.orch("--attach")
    assert_measured(result, place.output)
    assert "200 of 200 requests succeeded" in result.stdout
    place.stop_all()
    place.assert_nothing_left()


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("stage", ["has begun", "benchmark: 4 clients"])
def test_lost_terminal_loses_nothing(place, signum, stage):
    recipe = place.recipe(n_clients=4, n_requests_per_client=20)
    process = place.start(recipe, "--site", "local")
    wait_for(lambda: stage in place.log(), PATIENCE_S, place.log)
    process.send_signal(signum)
    process.wait(PATIENCE_S)
    result = place.orch("--attach")
    assert_measured(result, place.output)
    assert "80 of 80 requests succeeded" in result.stdout
    (run,) = place.output.glob("benchmarks/*/summary.json")
    place.stop_all()
    place.assert_nothing_left()
    assert run.exists()
