"""/metrics of the client service: what queries and benchmarks leave in it."""

import json
import os
import uuid
from itertools import pairwise
from pathlib import Path

import pytest
from events import until
from paced_server import Pace

import clientService
from client.metrics import Queries
from client.settings import service_settings_from
from contracts.histograms import BUCKETS

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "ttft": "orch_time_to_first_token_seconds",
    "itl": "orch_inter_token_latency_seconds",
    "e2e": "orch_e2e_request_latency_seconds",
}


@pytest.fixture
def output(tmp_path, server, monkeypatch, door):
    """An output directory with the address of the stand-in, and the environment that names it."""
    (tmp_path / "ollama_ip_41.txt").write_text(f"127.0.0.1:{server.port}\n")
    names = {"OUTPUT_DIR": tmp_path, "OLLAMA_JOB": "41", "MODEL": "known"}
    for name, value in {**names, "JOB_END": 1_900_000_000, "QUERY_TIMEOUT": 20}.items():
        monkeypatch.setenv(f"ORCH_{name}", str(value))
    return tmp_path


@pytest.fixture
def client(output):
    """The service; a run that a test leaves behind is cancelled."""
    client = clientService.create_app().test_client()
    yield client
    client.delete("/benchmark/long")


def metrics(client):
    """The samples of a scrape by name with labels."""
    text = client.get("/metrics").get_data(as_text=True)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def histogram(found, name, source):
    """Count, sum and the cumulated counts by limit."""
    start = f'{NAMES[name]}_bucket{{le="'
    buckets = {
        key.removeprefix(start).partition('"')[0]: value
        for key, value in found.items()
        if key.startswith(start) and f'source="{source}"' in key
    }
    label = f'{{source="{source}"}}'
    return found[f"{NAMES[name]}_count{label}"], found[f"{NAMES[name]}_sum{label}"], buckets


def counts(found, source):
    """Requests by outcome, and the number of values in each histogram."""
    outcomes = {
        outcome: found[f'orch_requests_total{{outcome="{outcome}",source="{source}"}}']
        for outcome in ("ok", "error")
    }
    return outcomes | {name: histogram(found, name, source)[0] for name in NAMES}


def query(client, **body):
    return client.post("/query", json={"prompt": "x", **body})


# --- queries ---


def test_a_streamed_query_has_all_latencies(client, server):
    server.pace = Pace(ttft=0.1, itl=0.05, tokens=4)
    response = query(client, stream=True)
    assert len(response.get_data().splitlines()) == 5
    found = metrics(client)
    assert counts(found, "query") == {"ok": 1, "error": 0, "ttft": 1, "itl": 3, "e2e": 1}
    ttft, itl, e2e = (histogram(found, name, "query")[1] for name in ("ttft", "itl", "e2e"))
    # Nothing comes before its time; on a busy machine all may come later.
    assert ttft >= 0.1 and ttft + itl >= 0.1 + 3 * 0.05
    assert e2e >= ttft + itl
    assert found['orch_generation_tokens_total{source="query"}'] == 4
    assert found['orch_prompt_tokens_total{source="query"}'] > 0


def test_a_query_that_is_answered_at_once_has_no_first_token(client, server):
    server.pace = Pace(ttft=0.05, tokens=6)
    query(client)
    found = metrics(client)
    assert counts(found, "query") == {"ok": 1, "error": 0, "ttft": 0, "itl": 0, "e2e": 1}
    assert histogram(found, "e2e", "query")[1] >= 0.05
    assert found['orch_generation_tokens_total{source="query"}'] == 6


@pytest.mark.parametrize(
    ("failure", "stream"),
    [("http_500", False), ("http_500", True), ("cut", True), ("error_line", True),
     ("no_final", True)],
)  # fmt: skip
def test_a_query_that_fails_is_an_error_and_in_no_histogram(client, server, failure, stream):
    server.pace = Pace(itl=0.001, failure=failure)
    query(client, stream=stream).get_data()
    found = metrics(client)
    assert counts(found, "query") == {"ok": 0, "error": 1, "ttft": 0, "itl": 0, "e2e": 0}
    assert found['orch_requests_in_flight{source="query"}'] == 0


def test_a_stream_with_a_line_that_is_no_json_has_failed():
    queries = Queries()
    with queries.ask() as asked:
        asked.streams()
    asked.read(b'{"response":"a","done":false}\n{this is not JSON\n')
    asked.end()
    ended, in_flight = queries.read()
    assert (ended.ok, ended.error, in_flight) == (0, 1, 0)


def test_a_query_while_no_address_is_known_is_an_error(client, output):
    (output / "ollama_ip_41.txt").unlink()
    query(client)
    found = metrics(client)
    assert counts(found, "query")["error"] == 1
    assert (found["orch_client_replicas"], found["orch_client_replicas_out"]) == (0, 0)


def test_a_query_that_makes_no_sense_is_none(client):
    assert query(client, model=7).status_code == 400
    assert counts(metrics(client), "query")["error"] == 0


def test_a_query_is_in_flight_until_its_stream_ends_or_its_caller_gives_up(client, server):
    server.pace = Pace(itl=0.02, tokens=200)
    response = query(client, stream=True)
    next(iter(response.response))
    assert metrics(client)['orch_requests_in_flight{source="query"}'] == 1
    response.close()
    found = metrics(client)
    assert found['orch_requests_in_flight{source="query"}'] == 0
    assert counts(found, "query") == {"ok": 0, "error": 0, "ttft": 0, "itl": 0, "e2e": 0}


# --- benchmarks ---


def agrees(found, summaries):
    """Whether the metrics have what the runs' own summaries have, to the request."""
    requests = [summary["requests"] for summary in summaries]
    latencies = [summary["results"] for summary in summaries]
    assert counts(found, "benchmark")["ok"] == sum(each["succeeded"] for each in requests)
    assert counts(found, "benchmark")["error"] == sum(each["failed"] for each in requests)
    for name, key in (("ttft", "ttft"), ("e2e", "request_time")):
        values = [r[key] for results in latencies for r in results if r["error"] is None]
        count, total, buckets = histogram(found, name, "benchmark")
        assert (count, total) == (len(values), pytest.approx(sum(values)))
        for limit in BUCKETS[name]:
            assert buckets[repr(limit)] == sum(value <= limit for value in values)
        assert buckets["+Inf"] == count
    tokens = sum(r["tokens"] for results in latencies for r in results if r["error"] is None)
    assert found['orch_generation_tokens_total{source="benchmark"}'] == tokens
    return True


def test_after_benchmarks_the_counts_are_the_load_generators_own(client, server):
    body = {"n_clients": 3, "n_requests_per_client": 7}
    server.pace = Pace(ttft=0.02, itl=0.005, failure="cut", fail_from=4, fail_every=5)
    first = client.post("/benchmark", json=body).get_json()
    assert first.get("failed", 0) > 0, first
    assert agrees(metrics(client), [first])
    server.pace = Pace(ttft=0.01)
    second = client.post("/benchmark", json={**body, "processes": 2}).get_json()
    found = metrics(client)
    assert agrees(found, [first, second])
    assert found["orch_client_benchmark_running"] == 0
    assert found["orch_benchmark_requests_planned"] == found["orch_benchmark_requests_done"] == 0
    assert found['orch_requests_in_flight{source="benchmark"}'] == 0
    assert counts(found, "query")["ok"] == 0


def test_while_a_benchmark_runs_its_counts_grow_and_never_shrink(client, server):
    server.pace = Pace(itl=0.01)
    body = {"n_clients": 4, "n_requests_per_client": 5000, "id": "long", "wait": False}
    client.post("/benchmark", json=body)
    seen = []

    def has_some():
        seen.append(metrics(client))
        return seen[-1]["orch_benchmark_requests_done"] > 20

    until(has_some)
    assert seen[-1]["orch_client_benchmark_running"] == 1
    assert seen[-1]["orch_benchmark_requests_planned"] == 20_000
    assert 1 <= seen[-1]['orch_requests_in_flight{source="benchmark"}'] <= 4
    client.delete("/benchmark/long")
    seen.append(metrics(client))
    growing = [name for name in seen[0] if "_total" in name or "_count" in name or "_sum" in name]
    for before, after in pairwise(seen):
        assert all(after[name] >= before[name] for name in growing)
    cancelled = client.get("/benchmark/long").get_json()
    assert cancelled["state"] == "cancelled" and agrees(seen[-1], [cancelled])
    assert seen[-1]['orch_requests_in_flight{source="benchmark"}'] == 0


# --- the rest ---


def test_the_service_tells_of_its_surroundings(client, output):
    until(lambda: metrics(client)["orch_client_replicas_out"] == 0, what="that HAProxy knows it")
    found = metrics(client)
    disk = os.statvfs(output)
    assert found["orch_job_end_timestamp_seconds"] == 1_900_000_000
    assert found["orch_output_size_bytes"] == disk.f_blocks * disk.f_frsize
    assert 0 < found["orch_output_free_bytes"] <= found["orch_output_size_bytes"]
    assert found["orch_client_replicas"] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_every_metric_is_in_the_documentation(client):
    described = (ROOT / "docs" / "monitoring.md").read_text()
    text = client.get("/metrics").get_data(as_text=True)
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE orch_")}
    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in described] == []


def test_series_do_not_grow_with_use(client, server):
    """Thousands of requests, none like another; each kind of them once before that."""
    server.pace = Pace(tokens=2)

    def once(number):
        name = uuid.UUID(int=number).hex
        client.get(f"/{name}")
        client.get(f"/benchmark/{name}")
        query(client, prompt=name, stream=bool(number % 2)).get_data()
        query(client, model=name)
        client.post("/query", data=name)

    once(0)
    once(1)
    before = set(metrics(client))
    for number in range(2, 600):
        once(number)
    assert set(metrics(client)) == before
    assert not any("_created" in name for name in before)


@pytest.mark.parametrize("variable", ["ORCH_JOB_END", "ORCH_MONITORING_JOB"])
def test_a_bad_setting_is_named(output, variable):
    with pytest.raises(ValueError, match=variable):
        service_settings_from({**os.environ, variable: "to/morrow"})


def test_without_a_time_limit_there_is_no_end_of_the_job(output, monkeypatch):
    monkeypatch.delenv("ORCH_JOB_END")
    found = metrics(clientService.create_app().test_client())
    assert "orch_job_end_timestamp_seconds" not in found


def test_a_benchmark_knows_the_monitoring_that_there_is_at_its_beginning(
    client, output, monkeypatch
):
    """By the command line that the summary has."""
    monkeypatch.setenv("ORCH_MONITORING_JOB", "43")
    watched = clientService.create_app().test_client()
    (output / "prometheus_ip_43.txt").write_text("127.0.0.1:9\n")
    (output / "pushgateway_ip_43.txt").write_text("not an address\n")
    watched.post("/benchmark", json={"id": "first"})
    command = json.loads((output / "benchmarks" / "first" / "summary.json").read_text())
    words = command["provenance"]["command"]
    assert "--prometheus=http://127.0.0.1:9" in words and "--push-gateway" not in words
    client.post("/benchmark", json={"id": "second"})
    command = json.loads((output / "benchmarks" / "second" / "summary.json").read_text())
    assert "--prometheus" not in command["provenance"]["command"]
