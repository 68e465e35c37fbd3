"""Healthy means that a query would be answered."""

import contextlib
import os
import threading

import pytest
from events import until
from paced_server import Pace, running

import client.door
import client.ollama.evidence
import clientService
from client.door import ENGINES, EngineServers, command, statistics
from client.errors import Busy, ModelMissing, OllamaFailed, TooSlow
from client.ollama.evidence import Evidence, Judgement
from client.settings import service_settings_from
from clientServiceHandler import probe_client
from retrieval.settings import section

OTHER = ("another:7b",)


@pytest.fixture
def servers():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running()) for _ in range(2)]


@pytest.fixture
def output(tmp_path, monkeypatch, door):
    names = {"OUTPUT_DIR": tmp_path, "OLLAMA_JOB": "41", "MODEL": "library/KNOWN"}
    for name, value in names.items():
        monkeypatch.setenv(f"ORCH_{name}", str(value))
    return tmp_path


@pytest.fixture
def soon(monkeypatch):
    """What was known a moment ago is old."""
    monkeypatch.setattr(client.ollama.evidence, "STALE_S", 0.0)
    monkeypatch.setattr(client.ollama.evidence, "RECENT_S", 0.0)
    monkeypatch.setattr(client.ollama.evidence, "RETRY_S", 0.0)


def at(server):
    return f"127.0.0.1:{server.port}"


def start(output, *servers):
    """A service in front of them, which knows that they answer."""
    (output / "ollama_ip_41.txt").write_text("".join(f"{at(server)}\n" for server in servers))
    service = clientService.create_app().test_client()
    until(lambda: health(service)["status"] == "healthy")  # who is late has not answered yet
    return service


def health(service):
    response = service.get("/health")
    found = response.get_json()
    assert response.status_code == (503 if found["status"] == "unhealthy" else 200)
    assert ("error" in found) == (found["status"] == "unhealthy")
    well = all(one["ok"] and one["reason"] is None for one in found["ollama"])
    assert found["status"] != "healthy" or well
    return found


def query(service, **body):
    return service.post("/query", json={"prompt": "x", **body})


def out(service):
    lines = service.get("/metrics").get_data(as_text=True).splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith("orch_client_replicas_out "))


# --- the model ---


def test_a_model_that_was_deleted_is_unhealthy_at_once_and_well_when_it_is_back(output, servers):
    service = start(output, servers[0])
    servers[0].pace = Pace(models=OTHER)
    found = health(service)
    assert found["status"] == "unhealthy" and found["ollama"][0]["available"] is False
    assert "does not have the model library/KNOWN" in found["error"]["message"]
    assert query(service).status_code == 502
    servers[0].pace = Pace()
    until(lambda: health(service)["status"] == "healthy")


def test_one_that_the_door_sends_nothing_to_is_unhealthy(output, servers, door):
    """It has come again, and the door has not seen it yet: who asked now would be refused."""
    service = start(output, servers[0])
    for line in ("disable health engines/engine1", "set server engines/engine1 health down"):
        command(door / "commands", line)
    found = health(service)
    assert found["status"] == "unhealthy"
    assert "has not answered the door" in found["error"]["message"]
    command(door / "commands", "enable health engines/engine1")
    until(lambda: health(service)["status"] == "healthy")


def test_an_engine_that_comes_while_one_looks_is_known_to_the_door(
    output, servers, door, monkeypatch
):
    real = EngineServers.look

    def look(known, fresh=False):
        found = real(known, fresh)
        (output / "ollama_ip_41.txt").write_text(f"{at(servers[0])}\n")
        return found

    monkeypatch.setattr(EngineServers, "look", look)
    monkeypatch.setattr(client.door, "LOOK_S", 3600)
    service = clientService.create_app().test_client()
    until(lambda: service.get("/health").status_code == 200)
    assert any(row["status"].startswith("UP") for row in statistics(door / "commands", ENGINES))


def test_one_of_several_that_lacks_the_model_degrades_and_is_avoided(output, servers):
    service = start(output, *servers)
    servers[0].pace = Pace(models=OTHER)
    found = health(service)
    assert found["status"] == "degraded"
    assert [replica["ok"] for replica in found["ollama"]] == [False, True]
    for _ in range(4):
        answer = query(service).get_json()
        assert (answer["replica"], answer["retried"]) == (at(servers[1]), False)


def test_a_query_finds_the_replica_that_has_the_model_before_anybody_asks_for_health(
    output, servers
):
    service = start(output, *servers)
    servers[0].pace = Pace(models=OTHER)
    for stream in (False, True):
        assert {query(service, stream=stream).status_code for _ in range(3)} == {200}
    assert out(service) == 1


def test_a_model_that_somebody_names_and_nobody_has_takes_no_replica_out(output, servers):
    service = start(output, *servers)
    assert query(service, model="none").status_code == 502
    assert out(service) == 0 and health(service)["status"] == "healthy"


def test_metrics_alone_see_that_a_model_was_deleted(output, servers):
    service = start(output, servers[0])
    assert out(service) == 0
    servers[0].pace = Pace(models=OTHER)
    until(lambda: out(service) == 1)
    servers[0].pace = Pace()
    until(lambda: out(service) == 0)


def test_one_that_is_not_in_memory_is_never_healthy_and_not_loaded_by_the_look(
    output, servers, soon
):
    service = start(output, servers[0])
    servers[0].pace = Pace(loaded=False)
    servers[0].forget()
    found = health(service)
    assert found["status"] == "degraded" and found["ollama"][0]["ok"]
    assert "not in memory: the next query waits" in found["ollama"][0]["reason"]
    assert servers[0].seen.requests == 0


def test_one_that_could_not_be_loaded_is_unhealthy(output, servers):
    service = start(output, servers[0])
    servers[0].pace = Pace(loaded=False, readable=False)
    found = health(service)
    assert found["status"] == "unhealthy"
    assert "answered 500: unable to open file" in found["error"]["message"]


def test_another_model_under_the_same_name_is_told(output, servers):
    servers[0].pace = Pace(digest="1")
    service = start(output, servers[0])
    servers[0].pace = Pace(digest="2")
    found = health(service)
    assert (found["status"], found["ollama"][0]["digest"]) == ("degraded", "2")
    assert "was replaced: its digest was 1, and is 2" in found["ollama"][0]["reason"]


# --- what became of queries ---


@pytest.mark.parametrize("failure", ["http_500", "error_line"])
def test_a_query_that_failed_counts_until_another_is_answered(output, servers, failure):
    service = start(output, servers[0])
    servers[0].pace = Pace(failure=failure)
    query(service, stream=failure == "error_line").get_data()
    found = health(service)
    assert found["status"] == "unhealthy"
    assert "told to fail" in found["error"]["message"] or "crashed" in found["error"]["message"]
    servers[0].pace = Pace()
    assert query(service).status_code == 200
    assert health(service)["status"] == "healthy"


def test_what_ollama_refuses_of_a_request_says_nothing_of_the_next(output, servers):
    service = start(output, servers[0])
    app = clientService.OllamaClientService(service_settings_from(os.environ))
    ours = app._evidence(None)
    app._health.failed(at(servers[0]), ModelMissing("no"), None)
    assert ours is not None and ours.judgement(at(servers[0])).ok
    assert health(service)["status"] == "healthy"


def test_one_that_fails_without_any_query_is_found_out(output, servers, soon):
    service = start(output, servers[0])
    servers[0].pace = Pace(failure="http_500")
    until(lambda: health(service)["status"] == "unhealthy")
    servers[0].pace = Pace()
    until(lambda: health(service)["status"] == "healthy")


def test_one_that_hangs_is_first_degraded_then_unhealthy(output, servers, soon, monkeypatch):
    monkeypatch.setattr(client.ollama.evidence, "SLOW_S", 0.2)
    monkeypatch.setattr(client.ollama.evidence, "PROBE_TIMEOUT_S", 3.0)
    service = start(output, servers[0])
    servers[0].pace = Pace(ttft=60)
    found = health(service)  # waits for a token, and not for long
    assert found["status"] == "degraded"
    assert "a request for one token has been waiting" in found["ollama"][0]["reason"]
    until(lambda: health(service)["status"] == "unhealthy")
    assert servers[0].seen.most_in_flight == 1
    servers[0].pace = Pace()
    until(lambda: health(service)["status"] == "healthy")


def test_a_hung_replica_of_several_gets_no_queries_until_it_answers(
    output, servers, soon, monkeypatch
):
    monkeypatch.setattr(client.ollama.evidence, "PROBE_TIMEOUT_S", 2.0)  # the other one is well
    service = start(output, *servers)
    servers[0].pace = Pace(ttft=60)
    until(lambda: not health(service)["ollama"][0]["ok"])
    assert {query(service).get_json()["replica"] for _ in range(4)} == {at(servers[1])}
    servers[0].pace = Pace()
    until(lambda: query(service).get_json()["replica"] == at(servers[0]))


# --- what it costs ---


def test_a_look_does_not_wait_for_a_token_of_one_that_answered_a_moment_ago(
    output, servers, soon, monkeypatch
):
    monkeypatch.setattr(client.ollama.evidence, "RECENT_S", 600.0)
    monkeypatch.setattr(client.ollama.evidence, "PROBE_TIMEOUT_S", 600.0)
    monkeypatch.setattr(client.ollama.health, "PATIENCE_S", 600.0)
    service = start(output, servers[0])
    servers[0].pace = Pace(ttft=600)
    assert health(service)["status"] == "healthy"
    until(lambda: servers[0].seen.most_in_flight == 1)  # it is asked all the same


def test_a_replica_that_works_or_has_just_answered_is_not_asked_for_a_token(output, servers):
    service = start(output, servers[0])
    servers[0].forget()
    for _ in range(5):
        assert health(service)["status"] == "healthy"
    servers[0].pace = Pace(itl=0.05, tokens=10_000)
    streams = [query(service, stream=True) for _ in range(3)]
    assert health(service)["status"] == "healthy"
    assert servers[0].seen.requests == 3
    for stream in streams:
        stream.close()


def test_while_a_benchmark_runs_nobody_is_asked_for_a_token(output, servers, soon):
    service = start(output, servers[0])
    servers[0].pace, body = Pace(itl=0.05), {"n_requests_per_client": 3, "warmup": 0}
    run = threading.Thread(target=lambda: service.post("/benchmark", json=body))
    servers[0].forget()
    run.start()
    until(lambda: servers[0].seen.requests > 0)
    while servers[0].seen.requests < 3:
        assert health(service)["status"] == "healthy"
    run.join(60)
    assert all(body["prompt"] != "Hi" for body in servers[0].seen.bodies[:3])


# --- evidence alone ---


def evidence(*answers, busy=False):
    """Its probes end with these in turn: an exception, or None."""
    left = list(answers)

    def ask(_address, _timeout_s):
        if (answer := left.pop(0)) is not None:
            raise answer

    return Evidence(ask, lambda _: busy)


def test_a_probe_that_waits_behind_queries_is_no_proof_of_a_hang():
    assert evidence(TooSlow("-"), busy=True).ask("a").ok
    assert evidence(TooSlow("-")).ask("a") == Judgement(
        False, "a request for one token was not answered in 30 s"
    )


def test_a_full_queue_is_told_and_is_no_failure():
    assert evidence(Busy("full")).ask("a") == Judgement(True, "full")


def test_the_last_answer_counts():
    known = evidence(OllamaFailed("gone"), None)
    assert known.ask("a") == Judgement(False, "gone")
    assert known.ask("a") == Judgement(True, None)
    known.failed("a", "again")
    assert not known.judgement("a").ok and known.judgement("b").ok
    known.answered("a")
    assert known.judgement("a") == Judgement(True, None)


# --- the embedding model ---


def test_an_embedding_model_that_was_deleted_degrades(output, servers, monkeypatch):
    monkeypatch.setenv("ORCH_QDRANT", str(output / "storage"))
    monkeypatch.setenv("ORCH_RETRIEVAL", section("c", "library/embedder", 2))
    servers[0].pace = Pace(models=("known:latest", "Embedder:latest"))
    service = start(output, servers[0])
    servers[0].pace = Pace()
    found = health(service)
    assert (found["status"], found["retrieval"]["ok"]) == ("degraded", False)
    assert "does not have the model library/embedder" in found["retrieval"]["reason"]


# --- who asks ---


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        ({"status": "healthy", "ollama": [{"ok": True}]}, True),
        ({"status": "degraded", "ollama": [{"ok": True, "reason": "not in memory"}]}, True),
        ({"status": "degraded", "ollama": [{"ok": True}, {"ok": False, "reason": "gone"}]}, False),
        ({"status": "degraded", "ollama": [], "retrieval": {"ok": False, "reason": "no"}}, False),
    ],
)
def test_a_deployment_is_ready_when_every_query_would_be_answered(monkeypatch, answer, ready):
    class Said:
        status, json, error = 200, answer, ""

    monkeypatch.setattr("hpc.web.call", lambda *_, **__: Said)
    assert isinstance(probe_client("http://h:1", "m"), str) is not ready
