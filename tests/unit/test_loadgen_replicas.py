"""Several replicas: who gets which request, and what happens when one of them dies."""

import asyncio
import contextlib
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from events import PATIENCE_S, undisturbed
from hand_made import judged
from paced_server import Pace, running
from ports import free_port

from contracts.errors import TargetError, UsageError
from contracts.figures import e2e, ttft
from engines.http.balance import Balance
from engines.ollama import OLLAMA
from loadgen.load import runner
from loadgen.load.connection import open_connection
from loadgen.load.prompts import Texts
from loadgen.options import Options, parse_replica, parse_replicas
from loadgen.outputs import results, run_files

LOOKS = 4  # at version and models, before and after a run


def url_of(server):
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def servers():
    """Three replicas of the same pace: 4 requests at once, 60 ms each."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(Pace(ttft=0.05, itl=0.001, slots=4))) for _ in range(3)]


def measure(*servers, attach=lambda running: None, **changes):
    """Run it; the records and the summary with its verdict."""
    replicas = tuple(parse_replica(url_of(server)) for server in servers)
    plain = {"model": "known", "out": Path("unused"), "warmup": 0, "timeout_seconds": PATIENCE_S}
    asked = Options(replicas=replicas, prompts=Texts(), **{**plain, **changes})
    measured = runner.run(asked, attach)
    return measured.records, asdict(judged(measured, asked))


def row(summary, server):
    return next(r for r in summary["replicas"] if r["url"] == url_of(server))


@contextlib.contextmanager
def meanwhile(true, then, seconds=PATIENCE_S):
    """Beside the block, in a thread: `then` as soon as `true`."""

    def work():
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        then()
        did.append(True)

    did = []
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(seconds)
    assert did


# --- choosing ---


def test_the_one_with_the_fewest_outstanding_is_chosen_and_equals_take_turns():
    balance = Balance()
    assert [balance.acquire("abc") for _ in range(6)] == list("abcabc")
    balance.release("b")
    assert balance.acquire("abc") == "b"
    for replica in "abcabc":
        balance.release(replica)
    assert balance.outstanding.total() == 0


def test_one_that_is_out_is_chosen_only_where_none_is_in():
    balance = Balance()
    balance.ejected.add("a")
    assert [balance.acquire("ab") for _ in range(3)] == ["b"] * 3
    assert balance.acquire("ab", avoid="b") == "a"
    assert balance.acquire("b", avoid="b") is None


@undisturbed
def test_replicas_share_the_load_evenly_as_the_servers_count(servers):
    _, summary = measure(*servers, clients=12, requests=120)
    assert [server.seen.most_in_flight for server in servers] == [4, 4, 4]
    assert all(35 <= server.seen.requests <= 45 for server in servers)
    assert sum(replica["requests"] for replica in summary["replicas"]) == 120
    assert [replica["output_tokens"] for replica in summary["replicas"]] == [
        8 * server.seen.requests for server in servers
    ]


@undisturbed
def test_a_slow_replica_gets_fewer_requests_and_none_more_at_once(servers):
    slow, fast = servers[:2]
    slow.pace = Pace(ttft=0.4, itl=0.001, slots=4)
    _, summary = measure(slow, fast, clients=8, requests=80)
    assert slow.seen.most_in_flight <= 5 and fast.seen.most_in_flight <= 5
    assert fast.seen.requests >= 3 * slow.seen.requests
    assert row(summary, fast)["succeeded"] == fast.seen.requests


def test_connections_are_opened_beforehand_and_used_again(servers):
    records, summary = measure(*servers, clients=7, requests=70)
    assert sum(server.seen.connections for server in servers) <= 7 + 3 + 3 * LOOKS
    assert all(record.connect is None for record in records)
    assert summary["requests"]["retried"] == 0


# --- death ---


def test_death_of_one_of_three_loses_no_request_that_had_no_byte_yet(servers):
    """All pieces of an answer come at its end: so each request in flight can be retried."""
    for server in servers:
        server.pace = Pace(ttft=0.1, slots=4)
    dies = servers[0]

    def is_busy():
        return dies.seen.requests > 10 and dies.seen.in_flight >= 6

    with meanwhile(is_busy, dies.kill):
        records, summary = measure(*servers, clients=18, requests=180)
    requests = summary["requests"]
    assert (requests["succeeded"], requests["failed"]) == (180, 0)
    assert requests["retried"] >= dies.seen.ended_early > 0  # all that were in flight
    dead = row(summary, dies)
    assert dead["retried_away"] == requests["retried"] and dead["failed"] == 0
    assert dead["requests"] == dead["succeeded"] + dead["retried_away"]
    assert sum(r["requests"] for r in summary["replicas"]) == 180 + requests["retried"]
    retried = [record for record in records if record.retried_from]
    assert all(record.retried_from == url_of(dies) != record.replica for record in retried)


def test_a_replica_that_died_is_named_and_the_run_stays_valid(servers):
    dies = servers[0]
    dies.pace = Pace(ttft=0.3)
    with meanwhile(lambda: dies.seen.in_flight > 1, dies.kill):
        _, summary = measure(*servers, clients=6, requests=60)
    (outage,) = row(summary, dies)["outages"]
    assert outage["to"] is None or outage["to"] > outage["from"]
    assert outage["why"]
    assert not {"error_rate", "stale_endpoint"} & set(summary["validity"]["codes"])
    note = summary["validity"]["notes"][0]
    assert url_of(dies) in note and "was out from" in note
    table = run_files.table(results.parse(summary))
    assert f"note: {note}" in table and "retried away" in table


def test_times_of_a_retried_request_count_from_its_first_sending(servers):
    dies, other = servers[:2]
    dies.pace = Pace(ttft=PATIENCE_S)
    died = []

    def die():
        time.sleep(0.5)
        died.append(time.perf_counter())
        dies.kill()

    with meanwhile(lambda: dies.seen.in_flight, die):
        records, summary = measure(dies, other, clients=2, requests=2)
    (retried,) = [record for record in records if record.retried_from]
    assert ttft(retried) > 0.3 + 0.05 and e2e(retried) >= ttft(retried)
    assert retried.intended <= retried.sent < died[0]
    assert (retried.queue, retried.connect) == (None, None)
    assert run_files.as_dict(retried, 0.0, True)["retried"]
    assert summary["latency_seconds"]["e2e"]["n"] == 2


def test_the_timeout_of_a_retried_request_counts_from_there_too(servers):
    dies, other = servers[:2]
    dies.pace = other.pace = Pace(ttft=PATIENCE_S)

    def die():
        time.sleep(1.5)
        dies.kill()

    with meanwhile(lambda: dies.seen.in_flight, die):
        records, _ = measure(dies, other, clients=2, requests=2, timeout_seconds=3.0)
    (retried,) = [record for record in records if record.retried_from]
    assert retried.error == "timeout"
    assert 2.99 <= e2e(retried) < 1.5 + 3.0  # the loop's clock is coarse


def test_one_that_comes_back_gets_requests_again(servers):
    dies, other = servers[:2]

    def die_and_return():
        dies.kill()
        served.append(dies.seen.requests)
        dies.revive()

    served = []
    with meanwhile(lambda: dies.seen.requests > 5, die_and_return):
        records, summary = measure(dies, other, clients=4, requests=300)
    assert dies.seen.requests > served[0] + 5
    (outage,) = row(summary, dies)["outages"]
    assert outage["to"] - outage["from"] > 0.9
    out = [r for r in records if outage["from"] < r.sent - records[0].sent < outage["to"] - 0.1]
    assert {record.replica for record in out[8:]} == {url_of(other)}
    assert summary["requests"]["succeeded"] + summary["requests"]["failed"] == 300


def test_one_that_comes_back_at_another_port_is_found_by_the_file_of_addresses(servers, tmp_path):
    dies, other, new = servers
    file = tmp_path / "addresses"
    file.write_text(f"127.0.0.1:{dies.port}\n127.0.0.1:{other.port}\n")

    def die_and_move():
        dies.kill()
        file.write_text(f"127.0.0.1:{new.port}\n127.0.0.1:{other.port}\n")

    with meanwhile(lambda: dies.seen.requests > 5, die_and_move):
        _, summary = measure(dies, other, addresses=file, clients=4, requests=300)
    assert new.seen.requests > 5
    assert row(summary, dies)["outages"][0]["to"] is not None, "known by the name that it had"


# --- retried once, and only before the first byte ---


def test_a_request_is_never_sent_a_third_time(servers):
    for server in servers:
        server.pace.failure = "cut_before_answer"
    records, summary = measure(*servers, requests=1)
    assert sum(server.seen.requests for server in servers) == 2
    assert records[0].error == "cut" and records[0].retried_from
    assert summary["requests"]["failed"] == summary["requests"]["retried"] == 1


@pytest.mark.parametrize(
    "failure",
    [
        "cut",
        "half_head",
        "half_line",
        "no_final",
        "error_line",
        "http_500",
        "http_503",
        "bad_http",
        "bad_json",
    ],
)
def test_after_the_first_byte_nothing_is_retried(servers, failure):
    first, second = servers[:2]
    first.pace = second.pace = Pace(failure=failure)
    _, summary = measure(first, second, requests=1, timeout_seconds=2.0)
    assert first.seen.requests + second.seen.requests == 1
    assert (summary["requests"]["failed"], summary["requests"]["retried"]) == (1, 0)


def test_a_timeout_is_not_retried(servers):
    first, second = servers[:2]
    first.pace = second.pace = Pace(ttft=PATIENCE_S)
    _, summary = measure(first, second, requests=1, timeout_seconds=1.0)
    assert summary["requests"]["errors"] == {"timeout": 1}
    assert first.seen.requests + second.seen.requests == 1


def test_where_there_is_one_replica_only_nothing_is_retried(servers):
    servers[0].pace.failure = "cut_before_answer"
    _, summary = measure(servers[0], requests=2)
    assert servers[0].seen.requests == 2
    assert summary["requests"]["errors"] == {"cut": 2}
    assert row(summary, servers[0])["outages"] == []


# --- down from the beginning ---


class Down:
    """Nobody listens there."""

    def __init__(self):
        self.port = free_port()


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_replica_that_is_down_at_the_start_is_named_and_the_others_serve_all(servers, warmup):
    down = Down()
    _, summary = measure(servers[0], down, clients=4, requests=8, warmup=warmup)
    assert summary["requests"]["succeeded"] == 8
    (outage,) = row(summary, down)["outages"]
    assert (outage["from"], outage["why"]) == (0.0, "Connection refused")
    assert url_of(down) in summary["validity"]["notes"][0]
    assert "stale_endpoint" in summary["validity"]["codes"]


@pytest.mark.parametrize("warmup", [0, 1])
def test_where_none_is_up_it_is_one_sentence(warmup):
    down = Down()
    with pytest.raises(TargetError, match=str(down.port)):
        measure(down, Down(), warmup=warmup)


def test_a_replica_that_answers_but_does_not_serve_ends_the_run(servers):
    servers[1].pace.models = ()
    with pytest.raises(TargetError, match=f"{servers[1].port} failed.* not found"):
        measure(*servers, warmup=1)


def test_stopped_while_a_replica_is_out_it_ends_at_once(servers):
    def attach(running_engine):
        asyncio.get_running_loop().call_later(0.3, running_engine.stop, "by the test")

    began = time.monotonic()
    _, summary = measure(servers[0], Down(), clients=2, requests=5000, attach=attach)
    assert summary["partial"] and time.monotonic() - began < 60  # all would take two minutes


def test_a_url_that_is_given_twice_is_refused():
    with pytest.raises(UsageError, match="http://h:80 is given twice"):
        parse_replicas(["h:80", "http://h:80/"])


def test_connections_ask_whether_the_other_host_is_still_there(servers):
    async def options_of_a_connection():
        connection = await open_connection([("127.0.0.1", servers[0].port)], 1.0, OLLAMA)
        options = (
            connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        )
        connection.close()
        return options

    assert asyncio.run(options_of_a_connection()) == (1, 25_000)
