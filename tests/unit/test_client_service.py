"""The client service in this process: what it says of Ollama, and to bad requests."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from events import PATIENCE_S, undisturbed, until
from paced_server import Pace, running
from ports import free_port

import clientService
from client.api.bodies import Query
from client.settings import service_settings_from

JOB = "41"


@pytest.fixture
def output(tmp_path, monkeypatch, door):
    """An output directory, and the environment that names it; no address yet."""
    (tmp_path / "logs").mkdir()
    names = {"OUTPUT_DIR": str(tmp_path), "OLLAMA_JOB": JOB, "MODEL": "known", "JOB_ID": "42"}
    for name, value in {**names, "DEPLOYMENT": "d1", "QUERY_TIMEOUT": "60"}.items():
        monkeypatch.setenv(f"ORCH_{name}", value)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    return tmp_path


@pytest.fixture
def impatient(output, monkeypatch):
    """To be asked for before the service: it waits for no answer for long."""
    monkeypatch.setenv("ORCH_QUERY_TIMEOUT", "3")


@pytest.fixture
def client(output):
    return clientService.create_app().test_client()


def publish(output, *addresses, job=JOB):
    """As a job does it: a temporary name, renamed."""
    temporary = output / ".address"
    temporary.write_text("".join(f"{address}\n" for address in addresses))
    temporary.replace(output / f"ollama_ip_{job}.txt")


def at(server):
    return f"127.0.0.1:{server.port}"


def error(response, status, kind):
    """The words of an error that has this status and kind, in the one shape of errors."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/json"
    found = response.get_json()
    assert set(found) == {"error"} and set(found["error"]) == {"type", "message"}
    assert found["error"]["type"] == kind
    assert "Traceback" not in found["error"]["message"]
    return found["error"]["message"]


# --- health ---


def unhealthy(client):
    """/health, where no replica answers: an error and, beside it, all that is known."""
    response = client.get("/health")
    found = response.get_json()
    assert (response.status_code, found["status"]) == (503, "unhealthy")
    assert found["error"]["type"] == "ollama_unreachable"
    return found


def test_health_says_what_it_reaches(client, server, output):
    server.pace = Pace(size=100, size_vram=100)
    publish(output, at(server))
    response = client.get("/health")
    assert response.status_code == 200
    assert response.get_json() == {
        "status": "healthy",
        "ollama_host": "127.0.0.1",
        "ollama": [
            {
                "address": at(server),
                "ok": True,
                "reason": None,
                "version": "0.0.0-stand-in",
                "model": "known:latest",
                "digest": None,
                "available": True,
                "loaded": True,
                "placement": {"size": 100, "size_vram": 100, "where": "gpu"},
                "outstanding": 0,
            }
        ],
        "model": "known",
        "deployment": "d1",
        "job_id": "42",
        "ollama_job": JOB,
    }


@pytest.mark.parametrize(("in_vram", "where"), [(0, "cpu"), (60, "gpu+cpu"), (100, "gpu")])
def test_health_says_where_the_model_sits(client, server, output, in_vram, where):
    server.pace = Pace(size=100, size_vram=in_vram)
    publish(output, at(server))
    assert client.get("/health").get_json()["ollama"][0]["placement"]["where"] == where


def test_another_model_does_not_count(client, server, output):
    server.pace.models = ("known:7b", "unknown:latest")
    publish(output, at(server))
    replica = client.get("/health").get_json()["ollama"][0]
    assert (replica["available"], replica["loaded"], replica["placement"]) == (False, False, None)


def test_a_model_that_is_there_but_not_loaded_has_no_placement(client, server, output):
    server.pace.loaded = False
    publish(output, at(server))
    replica = client.get("/health").get_json()["ollama"][0]
    assert (replica["available"], replica["loaded"], replica["placement"]) == (True, False, None)


def test_before_the_address_is_there_it_waits_for_the_job(client):
    for answer in (client.get("/health"), client.post("/query", json={"prompt": "x"})):
        message = error(answer, 503, "ollama_not_ready")
        assert f"Waiting for the Ollama job {JOB}" in message


def test_a_job_that_ended_before_is_said_with_code_and_reason(client, output):
    (output / "logs" / f"{JOB}.rc").write_text("1\nno such model\n")
    message = error(client.get("/health"), 503, "ollama_not_ready")
    assert f"The Ollama job {JOB} has ended (exit code 1: no such model)." == message


def test_an_ollama_that_does_not_answer_is_named(client, output):
    port = free_port()
    publish(output, f"127.0.0.1:{port}")
    message = unhealthy(client)["error"]["message"]
    assert f"127.0.0.1:{port} does not answer (Connection refused)" in message
    assert "ended" not in message
    (output / "logs" / f"{JOB}.rc").write_text("137\n")
    message = unhealthy(client)["error"]["message"]
    assert message.endswith(f"The Ollama job {JOB} has ended (exit code 137).")


# --- addresses ---


def test_another_jobs_newer_address_is_ignored(client, server, output):
    publish(output, at(server))
    for job in ("40", "42", "410"):
        publish(output, f"127.0.0.1:{free_port()}", job=job)
    assert client.get("/health").status_code == 200


def test_a_moved_address_is_picked_up(client, server, output):
    publish(output, at(server))
    assert client.post("/query", json={"prompt": "x"}).status_code == 200
    with running() as other:
        publish(output, at(other))
        assert client.post("/query", json={"prompt": "x"}).status_code == 200
        assert (server.seen.requests, other.seen.requests) == (1, 1)


def test_a_move_that_the_files_times_do_not_show_is_found_when_the_old_one_fails(server, output):
    service = clientService.OllamaClientService(service_settings_from(os.environ))
    path = output / f"ollama_ip_{JOB}.txt"
    path.write_text(f"127.0.0.1:{free_port()}\n")
    then = path.stat()
    old = service.addresses.read()[0]
    with path.open("r+") as file:  # same inode, length and time
        file.write(at(server).ljust(len(old)) + "\n")
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert service.addresses.read()[0] == old
    assert service.query_ollama(Query(prompt="x"))["done"]
    assert service.addresses.read()[0] == at(server)


def test_replicas_take_turns_and_one_that_is_down_is_passed_over(client, server, output):
    with running() as other:
        publish(output, at(server), f"127.0.0.1:{free_port()}", at(other))
        answers = [client.post("/query", json={"prompt": "x"}).status_code for _ in range(6)]
        assert answers == [200] * 6
        assert server.seen.requests >= 2 and other.seen.requests >= 2


@pytest.mark.parametrize("line", ["127.0.0.1", "127.0.0.1:11434"])
def test_a_bare_host_has_ollamas_port(output, line):
    publish(output, line)
    service = clientService.OllamaClientService(service_settings_from(os.environ))
    assert service.addresses.read()[0] == "127.0.0.1:11434"


GARBAGE = [
    b"",
    b"\n \n",
    b"a b\n",
    b"host:port\n",
    b"host:0\n",
    b"host:65536\n",
    b"host:1:2\n",
    b"http://host:1\n",
    b"host:1\n$(touch x)\n",
    b"\xff\xfe\n",
    b"-host:1\n",
    b"h" * 1000,
    b"host:\xd9\xa1\n",  # a digit, but not ours
]


@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_in_the_address_file_names_the_file(client, output, content):
    (output / f"ollama_ip_{JOB}.txt").write_bytes(content)
    message = error(client.get("/health"), 503, "ollama_not_ready")
    assert f"ollama_ip_{JOB}.txt" in message


# --- query ---


@pytest.fixture
def up(client, server, output):
    """The service with its address published."""
    publish(output, at(server))
    return client


def test_query_answers_with_ollamas_fields_and_the_time_it_took(up, server):
    server.pace.ttft = 0.05
    body = {"prompt": "hi", "system": "be short", "options": {"num_predict": 5}}
    answer = up.post("/query", json=body).get_json()
    assert (answer["response"], answer["eval_count"], answer["done"]) == ("aaaaa", 5, True)
    assert 0.05 <= answer["request_time"] < PATIENCE_S
    sent = {**body, "model": "known", "stream": False, "truncate": False}
    assert server.seen.bodies == [sent]


def test_the_model_of_the_request_goes_before_the_deployments(up, server):
    server.pace.models = ("known:latest", "other:latest")
    assert up.post("/query", json={"prompt": "x", "model": "other"}).status_code == 200
    assert server.seen.bodies[0]["model"] == "other"


def test_without_any_model_the_request_must_name_one(output, server, monkeypatch):
    monkeypatch.delenv("ORCH_MODEL")
    publish(output, at(server))
    client = clientService.create_app().test_client()
    message = error(client.post("/query", json={"prompt": "x"}), 400, "bad_request")
    assert "model is missing" in message


def test_an_unknown_model_is_said_in_ollamas_words(up):
    for stream in (False, True):
        body = {"prompt": "x", "model": "nope", "stream": stream}
        message = error(up.post("/query", json=body), 502, "ollama_error")
        assert "answered 404: model 'nope' not found" in message


def test_ollamas_own_failure_its_full_queue_and_its_silence(impatient, up, server):
    server.pace.failure = "http_500"
    message = error(up.post("/query", json={"prompt": "x"}), 502, "ollama_error")
    assert "answered 500: told to fail" in message
    server.pace.failure = "http_503"
    error(up.post("/query", json={"prompt": "x"}), 429, "ollama_busy")
    server.pace.failure = "cut_before_answer"
    error(up.post("/query", json={"prompt": "x"}), 503, "ollama_unreachable")
    server.pace = Pace(ttft=30)
    message = error(up.post("/query", json={"prompt": "x"}), 504, "timeout")
    # Of the 3 s, what was left when it was asked.
    assert re.search(r"did not answer in (3|2\.\d) s", message)


def test_an_answer_that_is_no_json_is_ollamas_failure(up, server):
    server.pace.failure = "bad_http"
    message = error(up.post("/query", json={"prompt": "x"}), 502, "ollama_error")
    assert "gave no answer of HTTP" in message


def lines_of(response):
    assert response.mimetype == "application/x-ndjson"
    return [json.loads(line) for line in response.get_data().splitlines()]


def test_a_stream_passes_ollamas_lines_through(up, server):
    server.pace = Pace(texts=("ä", "日本"), segment=5)
    lines = lines_of(up.post("/query", json={"prompt": "x", "stream": True}))
    assert "".join(line["response"] for line in lines) == "ä日本" * 4
    assert [line["done"] for line in lines] == [False] * 8 + [True]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("cut", "broke off"),
        ("half_line", "broke off"),
        ("no_final", "without its final chunk"),
        ("error_line", "the runner has crashed"),
        ("bad_json", "final chunk|nothing for too long"),
    ],
)
def test_a_stream_that_fails_on_the_way_ends_with_an_error_line(
    impatient, up, server, failure, words
):
    server.pace.failure = failure
    data = up.post("/query", json={"prompt": "x", "stream": True}).get_data().splitlines()
    last = json.loads(data[-1])
    assert json.loads(data[0])["response"] == "a"
    assert set(last["error"]) == {"type", "message"}
    assert any(word in last["error"]["message"] for word in words.split("|"))


def test_a_stream_that_nobody_reads_any_more_ends_at_ollama_too(up, server):
    server.pace = Pace(itl=0.01, tokens=1000)
    response = up.post("/query", json={"prompt": "x", "stream": True}, buffered=False)
    chunks = response.iter_encoded()
    next(chunks)
    response.close()
    until(lambda: not server.seen.in_flight)
    assert server.seen.ended_early == 1


# --- metrics ---


def test_metrics_count_by_route_and_status_with_bounded_labels(up):
    for body in ({"prompt": "x"}, {"prompt": "x", "stream": True}, {}):
        up.post("/query", json=body, buffered=True)
    for path in ("a", "b", "c", "benchmark/one"):
        up.get(f"/{path}", buffered=True)
    text = up.get("/metrics").get_data(as_text=True)
    assert 'orch_client_requests_total{route="/query",status="200"} 2.0' in text
    assert 'orch_client_requests_total{route="/query",status="400"} 1.0' in text
    assert 'orch_client_requests_total{route="unknown",status="404"} 3.0' in text
    assert 'route="/benchmark/<run_id>"' in text and "/benchmark/one" not in text
    assert 'orch_client_request_duration_seconds_count{route="/query"} 3.0' in text
    assert "orch_client_benchmark_running 0.0" in text


# --- start ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORCH_OUTPUT_DIR", "relative"),
        ("ORCH_OUTPUT_DIR", ""),
        ("ORCH_OLLAMA_JOB", ""),
        ("ORCH_OLLAMA_JOB", "../41"),
        ("ORCH_DOOR", ""),
        ("ORCH_DOOR", "door"),
        ("ORCH_ENGINE", "lama"),
        ("ORCH_QUERY_TIMEOUT", "soon"),
        ("ORCH_QUERY_TIMEOUT", "0"),
        ("ORCH_QUERY_TIMEOUT", "nan"),
    ],
)
def test_a_wrong_setting_is_named(output, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        clientService.create_app()


def test_it_imports_nothing_of_the_orchestration_and_needs_no_gunicorn():
    code = "import sys, clientService; print([m for m in sys.modules if m.split('.')[0] in "
    code += "('hpc', 'gunicorn', 'jinja2.nope', 'rich', 'orch')])"
    root = Path(clientService.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@undisturbed
def test_many_queries_at_once_reach_ollama_at_once(up, server):
    server.pace.ttft = 0.3
    threads = [
        threading.Thread(target=up.application.test_client().post, args=("/query",), kwargs=kwargs)
        for kwargs in [{"json": {"prompt": "x"}}] * 20
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.seen.most_in_flight == 20
