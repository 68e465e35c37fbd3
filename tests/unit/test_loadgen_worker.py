"""The engine against the stand-in with known times: what is recorded is what was."""

import asyncio
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from events import PATIENCE_S, undisturbed
from hand_made import judged
from paced_server import Pace, running
from ports import free_port

from contracts.errors import TargetError
from contracts.knobs import DEFAULT_PROMPT
from loadgen.load import runner
from loadgen.load.prompts import Texts
from loadgen.options import Options, parse_replica


def url_of(server):
    return f"http://127.0.0.1:{server.port}"


def options(*servers, **changes):
    replicas = tuple(parse_replica(url_of(server)) for server in servers)
    plain = {"model": "known", "out": Path("unused"), "warmup": 0, "timeout_seconds": PATIENCE_S}
    return Options(replicas=replicas, **{**plain, "prompts": Texts(), **changes})


def measure(*servers, attach=lambda running: None, **changes):
    """Run it; the records and the summary with its verdict."""
    asked = options(*servers, **changes)
    measured = runner.run(asked, attach)
    return measured.records, asdict(judged(measured, asked))


# --- who sends what, when ---


@undisturbed
def test_all_clients_are_in_flight_at_once_as_the_server_counts(server):
    server.pace.ttft = 0.2
    _, summary = measure(server, clients=60, requests=120)
    assert server.seen.most_in_flight == 60
    assert summary["concurrency"]["max"] == 60
    assert summary["requests"]["succeeded"] == 120


def test_each_client_makes_its_exact_share_on_one_connection(server):
    records, _ = measure(server, clients=7, requests=21)
    shares = [sum(record.client == client for record in records) for client in range(7)]
    assert shares == [3] * 7
    looks = 2 * len(("/api/version", "/api/ps"))  # before and after
    assert server.seen.connections == 7 + looks


@undisturbed
def test_an_open_loop_has_its_connections_before_it_begins(server):
    """By the rate and the time that the warm-up took: 120 are in flight."""
    server.pace.ttft = 0.3
    records, _ = measure(server, rate=400.0, arrivals="constant", requests=200, warmup=1)
    assert len(records) == 200
    assert all(record.connect is None for record in records)


def test_a_client_sends_its_next_request_after_the_end_of_the_one_before(server):
    server.pace.ttft = 0.01
    records, _ = measure(server, clients=2, requests=8)
    mine = [record for record in records if record.client == 0]
    assert all(b.sent >= a.end for a, b in pairwise(mine))
    assert all(record.sent >= record.intended for record in records)


def test_seed_and_num_predict_reach_the_server_and_requests_differ(server):
    measure(server, clients=2, requests=4, seed=100, num_predict=3, prompts=Texts(("x", "ü\ud800")))
    asked = sorted((body["options"]["seed"], body["prompt"]) for body in server.seen.bodies)
    assert asked == [(100, "x"), (101, "ü\ud800"), (102, "x"), (103, "ü\ud800")]
    assert {body["options"]["num_predict"] for body in server.seen.bodies} == {3}


def test_without_num_predict_the_model_decides(server):
    measure(server)
    assert server.seen.bodies == [
        {
            "model": "known",
            "prompt": DEFAULT_PROMPT,
            "stream": True,
            "options": {"seed": 0},
        }
    ]


def test_warm_up_goes_to_each_replica_and_is_not_counted(server):
    with running() as other:
        records, summary = measure(server, other, clients=2, requests=2, warmup=3)
        assert {record.replica for record in records} == {url_of(server), url_of(other)}
        assert (server.seen.requests, other.seen.requests) == (4, 4)
    assert summary["requests"]["started"] == 2
    assert summary["seconds"]["warmup"] > 0


def test_a_prompt_larger_than_the_sockets_buffer_arrives_whole(server):
    prompt = "long " * 190_000
    _, summary = measure(server, prompts=Texts((prompt,)))
    assert server.seen.bodies[0]["prompt"] == prompt
    assert summary["requests"]["succeeded"] == 1


# --- times and tokens ---


@undisturbed
def test_ttft_itl_and_e2e_are_the_servers(server):
    server.pace = Pace(ttft=0.08, itl=0.02, tokens=10)
    _, summary = measure(server, clients=4, requests=8)
    latency = summary["latency_seconds"]
    true = sum(server.seen.ttfts) / len(server.seen.ttfts)
    assert latency["ttft"]["mean"] == pytest.approx(true, abs=0.01)
    assert latency["itl"]["mean"] == pytest.approx(0.02, abs=0.004)
    assert latency["itl"]["n"] == 8 * 9
    # The final chunk comes one ITL after the tenth token.
    assert latency["e2e"]["mean"] == pytest.approx(true + 10 * 0.02, abs=0.04)
    assert latency["tpot"]["mean"] == pytest.approx(10 * 0.02 / 9, abs=0.004)


def test_a_chunk_is_no_token(server):
    server.pace = Pace(tokens=12, tokens_per_chunk=2, held_back=3, texts=("ä€",))
    records, summary = measure(server)
    assert records[0].answer.output_tokens == 12
    assert len(records[0].answer.chunks) == 3  # six chunks, three of them held back
    assert summary["requests"]["without_tokens"] == 0


@pytest.mark.parametrize("segment", [None, 1, 7])
@pytest.mark.parametrize("lines_at_once", [1, 5])
def test_lines_are_found_however_the_network_cuts_them(server, segment, lines_at_once):
    server.pace = Pace(tokens=11, texts=("日本", "é"), segment=segment, lines_at_once=lines_at_once)
    records, _ = measure(server)
    assert records[0].error is None
    assert len(records[0].answer.chunks) == records[0].answer.output_tokens == 11


def test_the_servers_own_durations_are_in_seconds(server):
    server.pace = Pace(ttft=0.05, itl=0.01, tokens=5)
    records, summary = measure(server)
    answer = records[0].answer
    assert (answer.load, answer.prefill) == (pytest.approx(0.001), pytest.approx(0.05))
    assert answer.decode == pytest.approx(0.05)
    assert 0.1 <= answer.total < PATIENCE_S
    assert answer.input_tokens == 7
    assert summary["throughput"]["input_tokens_per_second"] > 0


@undisturbed
def test_waiting_for_a_slot_shows_as_queue_and_its_twin_does_not_wait(server):
    server.pace = Pace(ttft=0.1, slots=1)
    _, crowded = measure(server, clients=2, requests=2)
    server.pace = Pace(ttft=0.1, slots=2)
    _, roomy = measure(server, clients=2, requests=2)
    assert crowded["server_seconds"]["queue"]["max"] > 0.09
    assert roomy["server_seconds"]["queue"]["max"] < 0.08


def test_counts_that_are_missing_stay_unknown(server):
    server.pace.counts = False
    records, summary = measure(server)
    assert records[0].answer.output_tokens is None
    assert summary["throughput"]["output_tokens_per_second"] is None
    assert summary["server_seconds"]["prefill"]["mean"] is None
    assert summary["latency_seconds"]["tpot"] == dict.fromkeys(
        ("mean", "std", "min", "p50", "p90", "p95", "p99", "max")
    ) | {"n": 0}


# --- failures: every second request fails, the others are the healthy twins ---

CLASSES = {
    "http_500": "http_500",
    "http_503": "http_503",
    "error_line": "server_error",
    "cut": "cut",
    "half_line": "cut",
    "cut_before_answer": "cut",
    "no_final": "cut",
    "bad_json": "bad_json",
    "bad_http": "bad_http",
    "stall": "timeout",
}


@pytest.mark.parametrize(("failure", "error"), CLASSES.items())
def test_a_failed_request_is_classed_and_leaves_the_others_alone(server, failure, error):
    server.pace = Pace(failure=failure, fail_every=2)
    kept = failure != "cut_before_answer"  # on one that was idle: see test_http_members
    timeout_s = 2.0 if failure == "stall" else PATIENCE_S
    records, summary = measure(
        server, requests=4, timeout_seconds=timeout_s, reuse_connections=kept
    )
    assert [record.error for record in records] == [error, None, error, None]
    assert all(record.message for record in records if record.error)
    assert summary["requests"]["errors"] == {error: 2}
    assert summary["latency_seconds"]["e2e"]["n"] == 2
    assert summary["concurrency"]["max"] == 1


def test_ollamas_words_are_kept(server):
    server.pace = Pace(failure="error_line")
    assert measure(server)[0][0].message == "the runner has crashed"
    server.pace = Pace(failure="http_500")
    assert measure(server)[0][0].message == "told to fail"


def test_answers_without_tokens_make_a_run_invalid(server):
    server.pace = Pace(failure="no_tokens")
    _, summary = measure(server)
    assert summary["requests"]["without_tokens"] == 1
    assert "no_tokens" in summary["validity"]["codes"]


def test_no_replica_at_all_is_one_sentence():
    class Down:
        port = free_port()

    for warmup in (0, 1):
        with pytest.raises(TargetError, match=str(Down.port)):
            measure(Down, warmup=warmup)


def test_a_model_that_is_not_there_is_said_in_ollamas_words(server):
    with pytest.raises(TargetError, match="model 'nope' not found"):
        measure(server, model="nope", warmup=1)


def test_one_good_warm_up_is_enough(server):
    server.pace = Pace(failure="http_500", fail_every=2)
    assert measure(server, warmup=2, requests=2)[1]["requests"]["succeeded"] == 1


# --- stopped ---


def stop_after(seconds):
    def attach(running_engine):
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, running_engine.stop, "by the test")

    return attach


@undisturbed
def test_a_stopped_run_keeps_what_was_measured(server):
    server.pace = Pace(ttft=0.1, tokens=1)
    records, summary = measure(server, clients=3, requests=300, attach=stop_after(0.35))
    assert summary["partial"]
    assert summary["requests"]["interrupted"] == 3
    assert 3 <= summary["requests"]["succeeded"] <= 12
    assert len(records) == summary["requests"]["succeeded"] + 3
    assert summary["requests"]["failed"] == 0
    assert "by the test" in summary["validity"]["reasons"][0]


def test_stopped_in_the_warm_up_nothing_is_measured(server):
    server.pace.ttft = 3
    records, summary = measure(server, warmup=1, attach=stop_after(0.1))
    assert records == []
    assert summary["latency_seconds"]["ttft"]["n"] == 0
    assert summary["seconds"]["warmup"] < 3


@undisturbed
def test_the_load_generators_own_cost_is_shown(server):
    server.pace = Pace(ttft=0.1)
    _, summary = measure(server, clients=2, requests=4)
    client = summary["client"]
    assert 0 < client["cpu_seconds"] < 1
    assert 0 <= client["dispatch_delay_seconds"]["p50"] < 0.05
    assert 0 <= client["loop_lag_seconds"]["max"] < 0.2
