"""What is asked of the command line reaches the server: loads, APIs, sweeps, energy."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from events import PATIENCE_S, undisturbed
from paced_server import Pace
from standin_nvml import Gpu, stand_in

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(server, tmp_path):
    """Run `python3 -m loadgen` to its end; (exit code, stdout, stderr, summary, requests)."""

    def run(*arguments, environment=None):
        command = [sys.executable, "-m", "loadgen", "--out", str(tmp_path / "out"), "--no-report"]
        command += ["--url", f"http://127.0.0.1:{server.port}", "--model", "known", *arguments]
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        given = {**os.environ, **(environment or {})}
        done = subprocess.run(
            command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert "Traceback" not in done.stderr
        return done, *results(tmp_path / "out")

    return run


def results(folder):
    summary = json.loads((folder / "summary.json").read_text())
    lines = folder / "requests.jsonl"
    return summary, [json.loads(x) for x in lines.open()] if lines.exists() else []


def only(summary):
    """The codes against a run, without the one for a machine that is busy."""
    return set(summary["validity"]["codes"]) - {"load_generator"}


# --- open loop ---


@undisturbed
def test_an_open_loop_goes_on_whatever_becomes_of_its_requests(load, server):
    server.pace = Pace(ttft=0.5, tokens=2)
    _, summary, lines = load("--rate", "40", "--arrivals", "constant", "--duration", "0.5")
    assert len(lines) == 20
    assert server.seen.most_in_flight == 20
    assert summary["load"]["mode"] == "open" and summary["load"]["rate"] == 40
    assert summary["concurrency"]["asked"] is None


@undisturbed
def test_with_a_limit_requests_wait_and_the_wait_counts(load, server):
    server.pace = Pace(ttft=0.1, tokens=1)
    _, summary, lines = load(
        "--rate", "100", "--arrivals", "constant", "--requests", "8", "--max-concurrency", "2"
    )
    assert server.seen.most_in_flight == 2
    assert lines[-1]["e2e"] == pytest.approx(4 * 0.1 - 0.07, abs=0.06)
    assert lines[-1]["sent"] - lines[-1]["intended"] > 0.15
    assert lines[-1]["sent"] - lines[-1]["due"] < 0.05
    assert any("--max-concurrency 2 was reached" in note for note in summary["validity"]["notes"])
    assert only(summary) == set()


@undisturbed
def test_a_closed_loop_may_have_a_duration(load, server):
    server.pace = Pace(ttft=0.05, tokens=1)
    _, summary, lines = load("--clients", "3", "--duration", "0.5")
    assert 15 <= len(lines) <= 33
    assert summary["seconds"]["measured"] == pytest.approx(0.5)
    assert all(line["intended"] < 0.5 for line in lines)
    assert summary["requests"]["planned"] == len(lines)
    assert only(summary) == set()


def test_without_reuse_each_request_has_a_connection_that_counts(load, server):
    _, summary, lines = load("--clients", "2", "--requests", "6", "--no-reuse", "--warmup", "0")
    looks = 4
    assert server.seen.connections == 6 + 2 + looks  # two are made beforehand, in vain
    assert all(line["connect"] > 0 for line in lines)
    assert all(line["ttft"] >= line["connect"] for line in lines)
    assert summary["load"]["reuse_connections"] is False


# --- prompts ---


def test_built_in_prompts_are_all_different_and_said_to_be(load, server):
    _, summary, _ = load("--clients", "2", "--requests", "6", "--input-tokens", "30")
    prompts = [body["prompt"] for body in server.seen.bodies]
    assert len(set(prompts)) == 7  # with the warm-up's
    assert {len(prompt.split()) for prompt in prompts} == {30}
    assert summary["prompts"]["source"] == "built-in"
    assert "no prefix cache" in summary["prompts"]["note"]


def test_one_text_for_all_is_said_to_hit_the_prefix_cache(load):
    _, summary, _ = load("--prompt", "Hello")
    assert (summary["prompts"]["source"], summary["prompts"]["distinct"]) == ("text", 1)
    assert "prefix cache" in summary["prompts"]["note"]


# --- OpenAI's API ---


@undisturbed
def test_openais_stream_is_understood(load, server):
    server.pace = Pace(ttft=0.1, itl=0.02, tokens=10)
    _, summary, lines = load(
        "--api", "openai", "--clients", "2", "--requests", "4", "--num-predict", "10"
    )
    assert summary["requests"]["succeeded"] == 4
    assert [line["output_tokens"] for line in lines] == [10] * 4
    assert all(len(line["gaps"]) == 9 for line in lines)
    assert summary["latency_seconds"]["ttft"]["mean"] == pytest.approx(0.1, abs=0.04)
    assert summary["latency_seconds"]["itl"]["mean"] == pytest.approx(0.02, abs=0.004)
    body = server.seen.bodies[-1]
    assert body["messages"][0]["role"] == "user" and body["max_tokens"] == 10
    assert body["stream_options"] == {"include_usage": True}
    assert only(summary) == set()


def test_an_error_of_openais_api_is_in_its_own_words(load, server):
    server.pace = Pace(failure="http_500", fail_from=1)
    _, summary, lines = load("--api", "openai", "--requests", "2")
    assert summary["requests"]["errors"] == {"http_500": 2}
    assert lines[0]["message"] == "told to fail"


# --- sweep ---


@undisturbed
def test_a_sweep_has_a_run_for_each_point_and_a_summary_of_all(load, server, tmp_path):
    server.pace = Pace(ttft=0.05, tokens=4)
    done, summary, _ = load("--sweep", "1,2,4", "--requests", "8")
    points = summary["sweep"]["points"]
    assert [point["value"] for point in points] == [1, 2, 4]
    assert summary["sweep"]["by"] == "clients"
    for point in points:
        own, lines = results(tmp_path / "out" / point["folder"])
        assert own == point["summary"] and len(lines) == 8
    rates = [point["summary"]["throughput"]["requests_per_second"] for point in points]
    assert rates[1] == pytest.approx(2 * rates[0], rel=0.3)
    assert "clients-4" in done.stdout
    assert "--sweep 1,2,4" in summary["provenance"]["command"]


def test_a_sweep_with_a_point_that_is_not_valid_is_not_valid(load, server):
    server.pace = Pace(failure="http_500", fail_from=5)
    done, summary, _ = load("--sweep", "1,2", "--requests", "4", "--warmup", "0")
    assert done.returncode == 6
    # Refusals come at once, so that on a busy machine both clients are hardly ever in flight.
    assert set(summary["validity"]["codes"]) - {"concurrency"} == {"error_rate"}
    assert summary["validity"]["reasons"][0].startswith("clients-2: ")


# --- what was there ---


def test_the_context_of_a_deployment_is_kept(load, tmp_path):
    (tmp_path / "record.json").write_text(json.dumps({"id": "d1", "jobs": {"ollama": 7}}))
    _, summary, _ = load("--context", str(tmp_path / "record.json"))
    assert summary["provenance"]["context"] == {"id": "d1", "jobs": {"ollama": 7}}
    before = summary["provenance"]["server"]["before"][0]
    assert before["version"] == "0.0.0-stand-in"


@undisturbed
def test_energy_is_what_the_drivers_counters_grew_by(load, server, tmp_path):
    server.pace = Pace(ttft=0.5, tokens=8)
    driver = stand_in(tmp_path, Gpu("GPU-a", watts=100), Gpu("GPU-b", watts=300))
    _, summary, _ = load("--clients", "2", environment=driver)
    energy = summary["energy"]
    assert energy["joules"] == pytest.approx(400 * 0.5, rel=0.4)
    assert energy["joules_per_output_token"] == pytest.approx(energy["joules"] / 16)
    assert energy["source"] == "NVML energy counter of all 2 GPUs that are seen there"


@undisturbed
def test_each_replica_of_a_record_has_its_part_of_the_energy(load, server, tmp_path):
    """One of two GPUs is the one replica's."""
    url, host = f"http://127.0.0.1:{server.port}", socket.gethostname()
    record = {"replicas": [{"url": url, "node": host, "cpus": "", "gpus": "1"}]}
    (tmp_path / "record.json").write_text(json.dumps(record))
    driver = stand_in(tmp_path, Gpu("GPU-a", watts=100), Gpu("GPU-b", watts=300))
    context = ("--context", str(tmp_path / "record.json"))
    _, summary, _ = load("--clients", "2", *context, environment=driver)
    (own,) = [replica["energy"] for replica in summary["replicas"]]
    assert own["joules"] == pytest.approx(0.75 * summary["energy"]["joules"], rel=0.01)
    assert own["watts"] == pytest.approx(300, rel=0.01)
    assert own["joules_by_gpu"] == {"GPU-b": own["joules"]}


def test_a_gpu_that_counts_no_energy_makes_no_figure(load, tmp_path):
    driver = stand_in(tmp_path, Gpu("GPU-a"), Gpu("GPU-b", watts=None))
    _, summary, _ = load(environment=driver)
    assert summary["energy"]["joules"] is None
    assert summary["energy"]["why"] == "this machine has no energy counter of NVML's"


def test_where_no_power_is_known_it_says_why(load):
    _, summary, _ = load()
    assert summary["energy"]["joules"] is None
    assert "--gpu-metrics" in summary["energy"]["why"]


def test_an_exporter_without_the_counter_is_named(load, server):
    url = f"http://127.0.0.1:{server.port}/metrics"
    _, summary, _ = load("--gpu-metrics", url)
    assert url in summary["energy"]["why"]
