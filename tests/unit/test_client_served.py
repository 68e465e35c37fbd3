"""The client service under gunicorn, as the job script starts it: what only a real server shows."""

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from events import PATIENCE_S, kill_all, undisturbed, until
from paced_server import Pace, running
from served import CONFIG, THREADS, gunicorn

ROOT = Path(__file__).resolve().parents[2]
LONG = {"n_clients": 2, "n_requests_per_client": 5000, "id": "long", "wait": False}


@pytest.fixture(scope="module")
def shared():
    """A stand-in for Ollama that answers at a given pace; see `server`."""
    with running() as server:
        yield server


@pytest.fixture
def server(shared):
    """The stand-in, with the pace of most tests here and nothing counted yet."""
    shared.pace = Pace(itl=0.01)
    shared.forget()
    return shared


@pytest.fixture(scope="module")
def kept(shared, tmp_path_factory):
    """The service under gunicorn, for all tests that do not end it."""
    with gunicorn(shared, tmp_path_factory.mktemp("kept")) as process:
        yield process


@pytest.fixture
def served(server, tmp_path):
    """The service under gunicorn, of this test alone."""
    with gunicorn(server, tmp_path) as process:
        yield process


def ask(served, method, path, body=None):
    """Send a request; the connection, its answer not read yet."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json"} if body else {})
    return connection


def answer(served, method, path, body=None):
    connection = ask(served, method, path, body)
    try:
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def load_generator(served, server):
    """Start a long benchmark; the process id of its load generator."""
    answer(served, "POST", "/benchmark", LONG)
    until(lambda: server.seen.requests > 3)
    processes = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    worker = children(served.pid)[0]
    return next(p for p in processes if alive(p) and parent(p) == worker)


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@undisturbed
def test_a_stream_arrives_before_its_end(kept, server):
    server.pace = Pace(itl=0.05, tokens=5)
    began = time.monotonic()
    connection = ask(kept, "POST", "/query", {"prompt": "x", "stream": True})
    lines = connection.getresponse()
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    first = json.loads(lines.readline())
    assert server.seen.in_flight == 1  # it is still being made
    rest = lines.read().splitlines()
    connection.close()
    assert first["response"] == "a" and len(rest) == 5 and json.loads(rest[-1])["done"]
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("leave", [socket.SHUT_RDWR, socket.SHUT_WR])
@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_before_the_answer_begins_frees_the_engine(kept, server, stream, leave):
    """Whether he closes the connection, or his side of it."""
    server.pace = Pace(ttft=3600)
    with contextlib.closing(ask(kept, "POST", "/query", {"prompt": "x", "stream": stream})) as one:
        until(lambda: server.seen.in_flight == 1)
        one.sock.shutdown(leave)
        until(lambda: server.seen.in_flight == 0)
    until(lambda: queries_in_flight(kept) == 0)


def queries_in_flight(served):
    with contextlib.closing(ask(served, "GET", "/metrics")) as connection:
        lines = connection.getresponse().read().decode().splitlines()
    (found,) = [line for line in lines if "in_flight" in line and 'source="query"' in line]
    return float(found.rpartition(" ")[2])


def test_who_no_longer_waits_for_a_benchmark_keeps_no_thread(kept, server):
    """As many as there are threads go away, one after another; the service answers."""
    server.pace = Pace(ttft=3600)
    body = {"n_clients": 1, "id": "left", "warmup": 0}
    for _ in range(THREADS):
        ask(kept, "POST", "/benchmark", body).close()
    # It may be answered before the first of them has begun the run.
    until(lambda: answer(kept, "GET", "/benchmark/left").get("state") == "running")
    answer(kept, "DELETE", "/benchmark/left")


def test_a_dropped_connection_does_not_stop_the_run(kept, server):
    body = {"n_clients": 2, "n_requests_per_client": 5, "id": "dropped"}
    connection = ask(kept, "POST", "/benchmark", body)
    until(lambda: server.seen.requests > 3)
    connection.close()
    until(lambda: answer(kept, "GET", "/benchmark/dropped")["state"] == "done")
    assert answer(kept, "GET", "/benchmark/dropped")["successful"] == 10


def test_health_answers_while_a_benchmark_runs(kept, server):
    answer(kept, "POST", "/query", {"prompt": "x"})  # else it is not known whether it would answer
    load_generator(kept, server)
    assert answer(kept, "GET", "/health")["status"] == "healthy"
    answer(kept, "DELETE", "/benchmark/long")


def test_term_ends_it_soon_with_a_running_benchmark(served, server, tmp_path):
    idle = ask(served, "GET", "/health")
    idle.getresponse().read()
    waiting = ask(served, "POST", "/query", {"prompt": "x", "options": {"num_predict": 5000}})
    pid = load_generator(served, server)
    began = time.monotonic()
    served.send_signal(signal.SIGTERM)
    assert served.wait(PATIENCE_S) == 0
    # It takes a second; gunicorn would give what goes on 30, and the query and the benchmark more.
    assert time.monotonic() - began < 25
    until(lambda: not alive(pid))
    summary = json.loads((tmp_path / "benchmarks" / "long" / "summary.json").read_text())
    assert summary["stopped"] == "its parent ended"
    idle.close()
    waiting.close()


def test_killed_it_takes_its_load_generator_with_it(served, server):
    pid = load_generator(served, server)
    worker = children(served.pid)[0]
    kill_all([served.pid, worker])
    until(lambda: not alive(pid))
    until(lambda: server.seen.in_flight == 0)


def test_when_only_the_master_is_killed_its_worker_and_the_run_end_too(served, server):
    pid = load_generator(served, server)
    os.kill(served.pid, signal.SIGKILL)
    until(lambda: not alive(pid))


def test_it_writes_nothing_to_the_home_or_the_working_directory(kept):
    before = {path.name for path in ROOT.iterdir()}
    answer(kept, "POST", "/benchmark", {"id": "one"})
    assert list((kept.output / "home").iterdir()) == []
    assert {path.name for path in ROOT.iterdir()} == before


def test_a_body_without_a_length_is_bounded_too(kept):
    connection = http.client.HTTPConnection("127.0.0.1", kept.port, timeout=PATIENCE_S)
    piece = b"x" * 65_536
    try:
        connection.request(
            "POST",
            "/query",
            (piece for _ in range(40)),
            {"Content-Type": "application/json"},
            encode_chunked=True,
        )
        found = connection.getresponse()
        assert (found.status, json.loads(found.read())["error"]["type"]) == (
            413,
            "request_entity_too_large",
        )
    except (BrokenPipeError, ConnectionResetError):
        pass  # told before all was sent
    finally:
        connection.close()


POST = b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_who_stops_in_the_midst_of_a_request_is_not_waited_for(server, tmp_path):
    config = tmp_path / "serving.py"
    config.write_text(f"exec(open({str(CONFIG)!r}).read())\nSTALL_S = 1\n")
    with gunicorn(server, tmp_path, config) as served, contextlib.ExitStack() as stack:
        answer(served, "GET", "/health")  # what connects before it serves knows no limit
        said = []
        for part in (POST[:30], POST + b'Content-Length: 99\r\n\r\n{"prompt": "a'):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)
            stack.enter_context(connection).sendall(part)
            said.append(connection)
        assert said[0].recv(1000) == b""
        answered = http.client.HTTPResponse(said[1])
        answered.begin()
        assert answered.status == 400
        assert b"The body did not come to its end." in answered.read()


def test_headers_of_a_proxy_that_is_not_there_change_nothing(kept):
    connection = http.client.HTTPConnection("127.0.0.1", kept.port, timeout=PATIENCE_S)
    connection.request("GET", "/health", headers={"SCRIPT_NAME": "/evil"})
    assert connection.getresponse().status == 200
    connection.close()
