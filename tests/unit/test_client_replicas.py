"""The client service with several replicas: who is asked, and what happens when one dies."""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from events import BUSY, PATIENCE_S, undisturbed, until
from paced_server import Pace, running

import clientService
from client.api.bodies import Query
from client.door import ENGINES, EngineServers, statistics
from client.errors import OllamaFailed
from client.ollama.addresses import AddressFile
from client.ollama.replicas import Replicas
from client.ollama.responses import Server
from client.settings import service_settings_from


@pytest.fixture
def servers():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running()) for _ in range(3)]


@pytest.fixture
def output(tmp_path, servers, monkeypatch, door):
    """An output directory with the addresses of three replicas, named by the environment."""
    names = {"OUTPUT_DIR": tmp_path, "OLLAMA_JOB": "41", "MODEL": "known", "QUERY_TIMEOUT": "60"}
    for name, value in names.items():
        monkeypatch.setenv(f"ORCH_{name}", str(value))
    publish(tmp_path, *servers)
    return tmp_path


@pytest.fixture
def app(output):
    return clientService.create_app()


@pytest.fixture
def service(app):
    return app.test_client()


def at(server):
    return f"127.0.0.1:{server.port}"


def publish(output, *servers):
    temporary = output / ".address"
    temporary.write_text("".join(f"{at(server)}\n" for server in servers))
    temporary.replace(output / "ollama_ip_41.txt")


def query(service, **body):
    return service.post("/query", json={"prompt": "x", **body})


def metric(service, name):
    lines = service.get("/metrics").get_data(as_text=True).splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def retries(service):
    return metric(service, "orch_client_retries_total")


@contextlib.contextmanager
def beside(count, work):
    """`work` in so many threads while the block runs; they have ended after it."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(PATIENCE_S)


def requests(servers):
    return [server.seen.requests for server in servers]


# --- where they are ---


def test_a_check_of_where_an_engine_was_does_not_take_it_out_where_it_is(door, tmp_path):
    """The check of a node that was lost waits for seconds, and fails after the engine has come
    again elsewhere."""
    path = tmp_path / "ollama_ip_41.txt"
    known = EngineServers(AddressFile(tmp_path, "41"), door / "commands")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path.write_text(f"127.0.0.1:{silent.getsockname()[1]}\n")
        assert known.look()
        (row,) = statistics(door / "commands", ENGINES)[:1]
    assert row["status"] == "UP", "one that fails would be enough"


# --- who is asked ---


def test_replicas_take_turns(service, servers):
    replicas = [query(service).get_json()["replica"] for _ in range(6)]
    assert requests(servers) == [2, 2, 2]
    assert replicas == [at(server) for server in servers] * 2


def test_one_that_is_busy_is_passed_over_as_long_as_another_has_fewer(app, servers):
    slow = servers[0]
    slow.pace = Pace(itl=1.0, tokens=1000)
    unread = query(app.test_client(), stream=True)
    for _ in range(8):
        assert query(app.test_client()).status_code == 200
    assert slow.seen.in_flight == 1  # all that while
    unread.close()
    assert requests(servers) == [1, 4, 4]


@undisturbed
def test_a_slow_replica_holds_its_share_of_what_is_outstanding_and_answers_fewer(app, servers):
    servers[0].pace = Pace(ttft=0.4)
    servers[1].pace = servers[2].pace = Pace(ttft=0.02)

    def ask():
        service = app.test_client()
        for _ in range(10):
            assert query(service).status_code == 200

    with beside(6, ask):
        pass
    assert servers[0].seen.most_in_flight <= 2
    assert requests(servers)[0] <= 12 and sum(requests(servers)) == 60


def test_outstanding_requests_are_shown_and_given_back_also_by_a_stream_nobody_reads(
    service, servers
):
    servers[0].pace = Pace(itl=0.01, tokens=1000)
    unread = query(service, stream=True)

    def outstanding():
        health = service.get("/health").get_json()["ollama"]
        return [replica["outstanding"] for replica in health]

    assert outstanding() == [1, 0, 0]
    unread.close()
    until(lambda: outstanding() == [0, 0, 0])  # HAProxy sees a moment later that it has closed


def test_a_stream_that_is_closed_before_its_first_line_is_given_back(output):
    service = clientService.OllamaClientService(service_settings_from(os.environ))
    service.stream_ollama(Query(prompt="x")).close()
    until(lambda: [replica.outstanding for replica in service.health()[0].ollama] == [0, 0, 0])


def test_the_door_is_asked_once_about_all_replicas(output, monkeypatch):
    service = clientService.OllamaClientService(service_settings_from(os.environ))
    asked = []

    def noted(commands, *which):
        asked.append(which)
        return statistics(commands, *which)

    monkeypatch.setattr("client.door.statistics", noted)
    assert [replica.ok for replica in service.health()[0].ollama] == [True] * 3
    assert len(asked) == 1


@pytest.mark.parametrize("failure", ["http_500", "cut_before_answer", "cut", None])
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_stays_outstanding_however_a_query_ends(service, servers, failure, stream):
    for server in servers:
        server.pace.failure = failure
    for _ in range(4):
        query(service, stream=stream, options={"num_predict": 3}).get_data()

    def outstanding():
        replicas = service.get("/health").get_json()["ollama"]
        return [replica["outstanding"] for replica in replicas]

    until(lambda: outstanding() == [0, 0, 0])


# --- death and return ---


@pytest.mark.parametrize("stream", [False, True])
def test_death_of_one_of_three_loses_no_query_that_had_no_byte_yet(app, servers, stream):
    for server in servers:
        server.pace = Pace(ttft=0.3)
    dies, answers = servers[0], []

    def ask():
        service = app.test_client()
        for _ in range(6):
            answer = query(service, stream=stream)
            answers.append((answer.status_code, json.loads(answer.get_data().splitlines()[-1])))

    with beside(9, ask):
        until(lambda: dies.seen.requests > 5 and dies.seen.in_flight > 1)
        dies.kill()
    assert len(answers) == 54
    assert all(status == 200 and last["done"] for status, last in answers)
    assert retries(app.test_client()) >= dies.seen.ended_early > 0  # all that were in flight
    assert metric(app.test_client(), "orch_client_replicas_out") == 1


def test_one_that_is_out_is_not_asked_and_comes_back_when_it_answers(service, servers):
    dies = servers[0]
    dies.kill()
    assert query(service).get_json()["retried"]
    assert not any(query(service).get_json()["retried"] for _ in range(9))
    assert retries(service) == 1 and dies.seen.requests == 0
    dies.revive()

    def is_back():
        query(service)
        return dies.seen.requests > 2

    until(is_back)
    assert metric(service, "orch_client_replicas_out") == 0
    assert retries(service) == 1  # it was not tried with a query


def test_one_that_has_lost_its_model_gets_nothing_until_it_has_it_again(service, servers):
    lost = servers[0]
    lost.pace = Pace(models=("other:latest",))
    service.get("/health")
    assert not any(query(service).get_json()["retried"] for _ in range(6))
    assert lost.seen.requests == 0 and metric(service, "orch_client_replicas_out") == 1
    lost.pace = Pace()
    until(lambda: query(service).get_json()["replica"] == at(lost))
    assert metric(service, "orch_client_replicas_out") == 0


def test_what_one_answers_that_has_lost_its_model_is_asked_of_another(service, servers):
    servers[0].pace = Pace(models=("other:latest",))
    answers = [query(service).get_json() for _ in range(4)]
    assert [answer["done"] for answer in answers] == [True] * 4
    assert sum(answer["retried"] for answer in answers) == 1 == retries(service)
    assert servers[0].seen.requests == 1


def test_one_that_is_ejected_is_checked_when_it_is_due_and_all_are_if_that_is_wanted(output):
    checks, told = [], []

    def check(address):
        checks.append(address)
        raise OllamaFailed("still no model")

    addresses = AddressFile(output, "41")
    first, *others = addresses.read()
    doors = SimpleNamespace(keep_from=told.append)
    replicas = Replicas(addresses, doors, check)
    replicas.recheck()
    assert checks == [] and replicas.eject(first) and told == [[first]]
    replicas.recheck()
    assert checks == [], "not yet"
    until(lambda: replicas.recheck() or checks)
    assert set(checks) == {first}
    assert told == [[first]], "what the door knows it is not told"
    replicas.check_soon()
    until(lambda: replicas.recheck() or set(checks) == {first, *others})
    until(lambda: not replicas.eject(first), what="the last one's check")
    replicas.readmit(first)
    assert sorted(told[-1]) == sorted(others)


def test_the_door_keeps_requests_from_some_never_from_all(service, servers):
    for server in servers:
        server.pace = Pace(failure="http_500")
    assert [query(service).status_code for _ in range(6)] == [502] * 6
    assert sum(requests(servers)) == 6
    assert metric(service, "orch_client_replicas_out") == 3


def test_a_moved_replica_is_asked_at_its_new_address(service, servers, output):
    publish(output, servers[0])
    query(service)
    servers[0].kill()
    publish(output, servers[1])
    assert query(service).get_json()["replica"] == at(servers[1])
    assert retries(service) == 0


# --- sent again, and only before the first byte ---


@pytest.mark.parametrize("stream", [False, True])
def test_a_query_that_is_sent_again_says_so(service, servers, stream):
    servers[0].pace.failure = "cut_before_answer"
    answer = query(service, stream=stream)
    if stream:
        who, retried = answer.headers["Orch-Replica"], answer.headers["Orch-Retried"] == "true"
        assert json.loads(answer.get_data().splitlines()[-1])["done"]
    else:
        who, retried = answer.get_json()["replica"], answer.get_json()["retried"]
    assert retried and who in (at(servers[1]), at(servers[2]))
    assert sorted(requests(servers))[:2] == [0, 1] and retries(service) == 1


def test_a_query_that_nobody_answers_ends_and_counts_once(service, servers):
    for server in servers:
        server.pace.failure = "cut_before_answer"
    answer = query(service)
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (503, "ollama_unreachable")
    assert sum(requests(servers)) == 3 and retries(service) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", ["bad_http", "http_500", "http_503"])
def test_what_answers_in_any_way_is_not_retried(service, servers, failure, stream):
    servers[0].pace.failure = failure
    last = query(service, stream=stream).get_data().splitlines()[-1]
    assert "error" in json.loads(last)
    assert requests(servers) == [1, 0, 0]
    assert retries(service) == 0


@pytest.mark.parametrize("failure", ["cut", "half_line"])
def test_a_stream_that_has_begun_is_not_retried_but_its_replica_is_out(service, servers, failure):
    servers[0].pace.failure = failure
    last = query(service, stream=True).get_data().splitlines()[-1]
    assert "broke off" in json.loads(last)["error"]["message"]
    assert sum(requests(servers)) == 1
    # Before any other scrape: after each the replicas are checked, and this one answers.
    assert metric(service, "orch_client_replicas_out") == 1
    assert retries(service) == 0


def test_silence_is_not_retried(servers, output, monkeypatch):
    monkeypatch.setenv("ORCH_QUERY_TIMEOUT", "2")  # by then it has been passed on
    service = clientService.create_app().test_client()
    servers[0].pace = Pace(ttft=30)
    assert query(service).status_code == 504
    assert sum(requests(servers)) == 1 and retries(service) == 0


def test_a_retried_query_has_no_more_time_than_another(servers, output, monkeypatch):
    monkeypatch.setenv("ORCH_QUERY_TIMEOUT", "3")
    service = clientService.create_app().test_client()
    for server in servers:
        server.pace = Pace(ttft=30)
    killing = threading.Timer(1.5, servers[0].kill)
    killing.start()
    began = time.monotonic()
    assert query(service).status_code == 504 and sum(requests(servers)) == 2
    assert 3 <= time.monotonic() - began < 1.5 + 3
    killing.join()


# --- health ---


def test_health_names_the_replica_that_is_down_and_is_degraded(service, servers):
    servers[1].kill()
    response = service.get("/health")
    health = response.get_json()
    assert (response.status_code, health["status"]) == (200, "degraded")
    assert [replica["address"] for replica in health["ollama"]] == [at(s) for s in servers]
    assert [replica["ok"] for replica in health["ollama"]] == [True, False, True]
    assert f"{at(servers[1])} does not answer" in health["ollama"][1]["reason"]
    assert health["ollama"][1]["version"] is None
    assert health["ollama"][2]["version"] == "0.0.0-stand-in"
    assert "error" not in health


def test_health_is_503_and_names_all_where_none_answers(service, servers):
    for server in servers:
        server.kill()
    response = service.get("/health")
    health = response.get_json()
    assert (response.status_code, health["status"]) == (503, "unhealthy")
    assert "None of the 3 replicas" in health["error"]["message"]
    assert all(at(s) in r["reason"] for s, r in zip(servers, health["ollama"], strict=True))
    servers[2].revive()
    assert service.get("/health").get_json()["status"] == "degraded"


# --- benchmark ---


def test_a_benchmark_survives_the_death_of_one_and_names_it(app, servers):
    for server in servers:
        server.pace = Pace(ttft=0.1)
    dies, results = servers[0], []

    def run():
        body = {"n_clients": 9, "n_requests_per_client": 10}
        results.append(app.test_client().post("/benchmark", json=body).get_json())

    with beside(1, run):
        until(lambda: dies.seen.requests > 5 and dies.seen.in_flight > 1)
        dies.kill()
    (result,) = results
    assert (result["successful"], result["failed"]) == (90, 0)
    assert result["retried"] == result["requests"]["retried"] >= 1
    assert sum(line["retried"] for line in result["results"]) == result["retried"]
    dead = next(r for r in result["replicas"] if r["url"] == f"http://{at(dies)}")
    assert dead["retried_away"] == result["retried"] and dead["outages"]
    assert set(result["validity"]["codes"]) <= BUSY
    assert any(at(dies) in note for note in result["validity"]["notes"])


# --- a host that is gone ---


def test_connections_ask_whether_the_other_host_is_still_there(app, servers, output):
    """Both those of a look at the health, and those of queries, by the kernel's table: a host that
    has lost its power says nothing."""
    with Server(at(servers[0])).connect() as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
    servers[0].pace = Pace(itl=1.0, tokens=1000)
    publish(output, servers[0])
    unread = query(app.test_client(), stream=True)
    to, keepalive = f"0100007F:{servers[0].port:04X}", "02"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    assert keepalive in {row[5].partition(":")[0] for row in rows if row[2] == to}
    unread.close()
