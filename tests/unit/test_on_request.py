"""An engine that is there only while somebody asks: what a recipe may say, who submits it and ends
it, and what becomes of requests that wait."""

import asyncio
import json
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from test_deployments import SITE, Jobs, look

from client.compatible.engine_client import EngineClient
from client.compatible.http_server import ClientConnection, Request
from client.compatible.socket_address import SocketAddress
from client.idle import waiting
from client.idle.engine_job import EngineFiles, EngineJob
from client.idle.sleeping import Sleeper
from client.idle.waiting import EVENTS, LINES, WaitingRoom, kind_of
from client.idle.watch import IdleWatch
from contracts.job_files import idle_file, read_idle
from hpc.deployments.chain import Chain
from hpc.deployments.on_request import take_up_engine
from hpc.deployments.records import create_record
from hpc.endpoints import OutputDir

PROJECT = Path(__file__).resolve().parents[2]
ON = {"model": "tiny", "idle_timeout": "30m", "on_request": True}


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        ({"idle_timeout": None}, "job.service.on_request = True: goes with job.service.idle_time"),
        ({"question": "Hi?"}, "nothing is asked before somebody asks"),
        ({"n_requests_per_client": 2}, "nothing is asked before somebody asks"),
        ({"retrieval": {}}, "nothing is asked before somebody asks"),
        ({"batch": {"input": "x"}}, "does not go with job.service.idle_timeout"),
    ],
)
def test_what_cannot_be_is_refused_in_words(orch, tmp_path, recipe_data, service, sentence):
    recipe_data["job"]["service"] = {**ON, **service}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_data))
    code, _, err = orch(path, "--site", "local", "--output-dir", tmp_path / "o")
    assert (code, sentence in err) == (2, True), err


def test_the_plan_says_it_and_the_script_is_there_for_the_first_request(
    orch, tmp_path, recipe_data
):
    recipe_data["job"]["service"] = ON
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_data))
    code, out, err = orch(path, "--site", "local", "--output-dir", tmp_path / "o", "--dry-run")
    assert code == 0, err
    assert "submitted by the first request, none at first" in out
    assert len(list((tmp_path / "o" / "scripts").glob("*.ollama.sh"))) == 1


# --- the record ----------------------------------------------------------------------------------


def test_the_engines_job_is_the_deployments_as_long_as_it_lives(tmp_path):
    output = OutputDir(tmp_path)
    output.prepare()
    facts = {"site": {"scheduler": "local"}, "recipe": {"job": {"service": ON}}}
    record = create_record(tmp_path, "demo-1124-120000-aaaa", facts)
    record.add_job("client", "local1", f"{record.id}.client")
    take_up_engine(record, output)
    assert record.jobs == {"client": "local1"}
    chain = Chain(tmp_path, record.id)
    chain.folder.mkdir()
    (chain.folder / "jobs").write_text("1 ollama local2\n1 ollama local3\n")
    take_up_engine(record, output)
    assert record.jobs == {"client": "local1", "ollama": "local3"}
    (tmp_path / "logs" / "local3.rc").write_text("0\nidle for 30 minutes\n")
    take_up_engine(record, output)
    assert record.jobs == {"client": "local1"}, "its end is not the deployment's"


@pytest.mark.parametrize(
    ("client", "engine", "state"),
    [
        ("RUNNING", "COMPLETED", "ready"),
        ("RUNNING", "FAILED", "ready"),
        ("FAILED", "RUNNING", "degraded"),
        ("FAILED", "COMPLETED", "failed"),
    ],
)
def test_an_engine_that_ends_while_status_asks_is_no_loss(
    tmp_path, monkeypatch, client, engine, state
):
    """The scheduler has seen its end, and its job's file was not there yet."""
    output = OutputDir(tmp_path)
    output.prepare()
    facts = {"site": SITE, "recipe": {"job": {"service": ON}}}
    record = create_record(tmp_path, "demo-1124-120000-aaaa", facts)
    record.add_job("client", "1", f"{record.id}.client")
    record.update(state="ready", endpoints={"client": None, "ollama": []})
    chain = Chain(tmp_path, record.id)
    chain.folder.mkdir()
    (chain.folder / "jobs").write_text("1 ollama 2\n")
    assert look(record, output, monkeypatch, Jobs(j1=client, j2=engine)) == state


# --- the script ----------------------------------------------------------------------------------

#: The client's job: each word of $2 is what is done in between two looks.
JOB = """
. lib/service.sh
. lib/chain.sh
. lib/idle.sh
. lib/on_request.sh
job_over() { [ -n "${OVER-}" ]; }
expected_start() { echo 1795000000; }
cancel_jobs() { [ $# = 0 ] || echo "cancel $*"; }
jobs_named() { cat "$OUTPUT/named" 2>/dev/null || [ ! -e "$OUTPUT/silent" ]; }
submit_script() {
  [ ! -e "$OUTPUT/full" ] || { echo 'sbatch: error: no' >&2; return 1; }
  echo "$*" >>"$OUTPUT/said"; wc -l <"$OUTPUT/said"
}
say() { :; }
JOB_ID=7 HOST=here DOOR=$1/door ENGINE_SERVICE=ollama ENGINE_TITLE=Ollama CHAIN_SCRIPTS=$1/s
service_begin client "$1" 3600
begin_chain "$1/chain"
begin_on_request "$1/told"
for what in $2; do
  case $what in
    wake) touch "$DOOR/wake" ;;
    idle) echo 'idle for 30 minutes' >"$DOOR/idle" ;;
    dies) printf '1\\nso it was\\n' >"$OUTPUT/logs/$ENGINE_JOB.rc" ;;
    asks) ENGINE_LOOKS=0 ;;
    over) ENGINE_LOOKS=0 OVER=1 ;;
    *) touch "$OUTPUT/$what" ;;
  esac
  keep_engine
  while [ -n "$ENGINE_ASKER" ]; do
    wait "$ENGINE_ASKER"
    keep_engine
  done
  echo "$what: $(tr '\\n' '|' <"$DOOR/engine")"
done
exit 0
"""


@pytest.fixture
def job(tmp_path):
    """Runs that; gives what it prints."""
    for folder in ("logs", "door"):
        (tmp_path / folder).mkdir()

    def run(*what):
        done = subprocess.run(
            ["bash", "-c", JOB, "bash", str(tmp_path), " ".join(what)], capture_output=True,
            text=True, timeout=60, cwd=PROJECT, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


def test_a_request_has_it_submitted_once_and_it_ends_when_nobody_asks(job, tmp_path):
    assert job("none", "wake", "wake", "idle", "wake") == [
        "none: ||",
        "wake: 1||",
        "wake: 1||",
        "cancel 1",
        "idle: ||",
        "wake: 2||",
        "cancel 2",  # with this job
    ]
    assert (tmp_path / "said").read_text() == f"  {tmp_path}/s.ollama.sh\n" * 2
    assert (tmp_path / "chain" / "jobs").read_text() == "1 ollama 1\n1 ollama 2\n"
    assert (tmp_path / "logs" / "1.told").read_text() == "idle for 30 minutes\n"
    assert not (tmp_path / "told").exists()


def test_why_one_failed_is_told_and_the_next_request_tries_again(job, tmp_path):
    assert job("full", "wake") == [
        "full: ||",
        "wake: |the Ollama job cannot be submitted from here: sbatch: error: no|",
    ]
    (tmp_path / "full").unlink()
    assert job("wake", "dies", "none", "wake") == [
        "wake: 1||",
        "cancel 1",
        "dies: |the Ollama job 1 has ended (exit code 1: so it was)|",
        "none: |the Ollama job 1 has ended (exit code 1: so it was)|",
        "wake: 2||",
        "cancel 2",
    ]


def test_an_engine_that_was_taken_though_nobody_heard_it_is_found_by_its_name(job, tmp_path):
    """Else it had GPUs for nobody, and the next request had another one submitted."""
    (tmp_path / "full").touch()
    (tmp_path / "named").write_text("55\n")
    assert job("wake", "wake", "idle") == [
        "wake: |the Ollama job cannot be submitted from here: sbatch: error: no|",
        "wake: 55||",
        "cancel 55",
        "idle: ||",
    ]
    assert (tmp_path / "chain" / "jobs").read_text() == "1 ollama 55\n"


def test_an_engine_that_nobody_heard_of_ends_with_the_clients_job(job, tmp_path):
    (tmp_path / "full").touch()
    (tmp_path / "named").write_text("55\n")
    assert job("wake")[-1] == "cancel 55"


def test_while_the_scheduler_is_silent_after_a_refusal_no_second_engine_is_asked_for(job, tmp_path):
    for name in ("full", "silent"):
        (tmp_path / name).touch()
    refused = "wake: |the Ollama job cannot be submitted from here: {}|"
    assert job("wake", "wake") == [
        refused.format("sbatch: error: no"),
        refused.format("the scheduler does not answer"),
    ]


def test_the_scheduler_says_when_a_job_begins_and_that_one_was_cancelled(job, tmp_path):
    assert job("wake", "asks", "over") == [
        "wake: 1||",
        "asks: 1||",
        "cancel 1",
        "over: |the Ollama job 1 has ended (it was cancelled, or its node has failed)|",
    ]


def test_a_job_that_was_requeued_takes_up_the_engine_that_runs_on(job, tmp_path):
    """Else its GPUs were nobody's, and the next request would have another one submitted."""
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "jobs").write_text("1 ollama 4\n1 ollama 5\n")
    assert job("wake", "idle") == ["wake: 5||", "cancel 5", "idle: ||"]
    (tmp_path / "logs" / "5.rc").write_text("0\nidle for 30 minutes\n")
    assert job("none") == ["none: ||"]


def test_nothing_is_submitted_once_it_is_told_to_stop(job, tmp_path):
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "stop").touch()
    assert job("wake") == ["wake: ||"]


# --- who sleeps ----------------------------------------------------------------------------------


class HAProxy:
    """At its socket: keeps what it is told, and says how many requests are under way."""

    def __init__(self, path):
        self.told, self.under_way = [], 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            client, _ = self._listener.accept()
            with client:
                line = client.recv(200).decode().strip()
                head = "# pxname,svname,scur\n"
                rows = f"queries,BACKEND,{self.under_way}\nwaiting,BACKEND,9\n"
                client.sendall((head + rows if line == "show stat" else "\n").encode())
                if line != "show stat":
                    self.told.append(line.removeprefix("set server awake/switch state "))


class Servers:
    """Of the engines, those that answer."""

    def __init__(self):
        self.answering = set()

    def up(self):
        return self.answering

    def rest(self):
        self.answering = set()


def test_it_wakes_sleeps_and_lets_nothing_through_in_between(tmp_path):
    door = tmp_path / "door"
    for folder in (door, tmp_path / "deployments"):
        folder.mkdir()
    haproxy, servers, files = HAProxy(door / "commands"), Servers(), EngineFiles(door)
    busy, works, told = [False], [False], idle_file(tmp_path, "demo")
    watch = IdleWatch(10.0, lambda: busy[0], told, door / "idle", lambda: sleeper.rest())
    sleeper = Sleeper(files, door / "commands", servers, watch, lambda: works[0])

    def state():
        return read_idle(tmp_path, "demo").state

    sleeper.look(1000.0)
    assert (state(), (door / "wake").exists()) == ("sleeping", False)
    works[0] = True
    sleeper.look(1001.0)
    assert (door / "wake").exists(), "a batch waits"
    works[0] = False
    (door / "engine").write_text("5\n\n")
    sleeper.look(1002.0)
    assert (state(), files.awake) == ("waking", False)
    servers.answering = {"h:1"}
    sleeper.look(1003.0)
    assert files.awake
    sleeper.look(1004.0)
    assert read_idle(tmp_path, "demo").ends == 1014.0
    haproxy.under_way = 1
    sleeper.look(1014.0)
    assert (files.awake, (door / "idle").exists()) == (True, False), "it came just now"
    haproxy.under_way = 0
    sleeper.look(1024.0)
    assert (files.awake, (door / "idle").read_text()) == (False, "idle for 10 seconds")
    assert files.read() == EngineJob("", "", files.read().since), "it is about to end"
    servers.answering = {"h:1"}
    sleeper.look(1025.0)
    assert (state(), files.awake) == ("sleeping", False)
    assert haproxy.told[-1] == "maint"


# --- who waits -----------------------------------------------------------------------------------


def asks(target, **body):
    return Request("POST", target, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (asks("/v1/chat/completions", stream=True), EVENTS),
        (asks("/v1/chat/completions"), None),
        (asks("/api/chat"), LINES),
        (asks("/api/generate?x", stream=False), None),
        (asks("/api/embed"), None),
        (asks("/query", stream=True), LINES),
        (asks("/query"), None),
        (Request("POST", "/query", {}, b"[1]"), None),
        (Request("POST", "/api/chat", {}, b"{"), None),
        pytest.param(Request("POST", "/api/chat", {}, b"[" * 100_000), None, id="nested deeply"),
    ],
)
def test_how_a_stream_looks(request_, kind):
    assert kind_of(request_) is kind


ANSWERS = {
    "/query": (200, "application/json", b'{"response": "Hi"}'),
    "/v1/chat/completions": (200, "text/event-stream", b'data: {"x": 1}\n\ndata: [DONE]\n\n'),
    "/api/generate": (200, "application/x-ndjson", b'{"response": "Hi"}\n'),
    "/v1/embeddings": (404, "application/json", b'{"error": {"message": "no such model"}}'),
}


def wait_room(tmp_path, target, body, meanwhile, method="POST"):
    """What is answered to a request that waits; once it does, `meanwhile` gets the files."""
    files = EngineFiles(tmp_path)
    asked = []

    async def door(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        asked.append(head)
        status, kind, answer = ANSWERS[path]
        length = len(answer)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n".encode())
        writer.write(f"Content-Length: {length}\r\n\r\n".encode() + answer)
        await writer.drain()

    async def run():
        behind = await asyncio.start_unix_server(door, tmp_path / "woken")
        room = WaitingRoom(
            files, EngineClient(SocketAddress(path=str(tmp_path / "woken")), (), 60.0), "tiny"
        )
        loop, connections = asyncio.get_running_loop(), set()
        server = await loop.create_unix_server(
            lambda: ClientConnection(room.handle, connections), tmp_path / "waiting"
        )
        reader, writer = await asyncio.open_unix_connection(tmp_path / "waiting")
        data = json.dumps(body).encode()
        writer.write(
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrch-User: owner\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        while method == "POST" and not (tmp_path / "wake").exists():
            await asyncio.sleep(0.01)
        meanwhile(files)
        answer = await asyncio.wait_for(reader.read(), 30)
        server.close()
        behind.close()
        writer.close()
        return answer

    head, _, body = asyncio.run(run()).decode().partition("\r\n\r\n")
    return head, body, asked


def wakes(files):
    files.let_through(True)


def fails(files):
    folder = files._engine.parent
    (folder / "engine").write_text("\nthe Ollama job 7 has ended (exit code 1: so it was)\n")


def pieces(body):
    """The body of chunks."""
    lines = body.split("\r\n")
    return "".join(lines[1::2])


def test_what_is_no_stream_is_passed_on_whole(tmp_path):
    head, body, asked = wait_room(tmp_path, "/query", {"prompt": "Hi"}, wakes)
    assert head.startswith("HTTP/1.1 200 ")
    assert json.loads(body) == {"response": "Hi"}
    assert "orch-user: owner" in asked[0]


def test_an_error_of_the_engine_stays_one(tmp_path):
    head, body, _ = wait_room(tmp_path, "/v1/embeddings", {}, wakes)
    assert head.startswith("HTTP/1.1 404 ")
    assert "no such model" in body


def test_a_stream_of_events_has_comments_before_them(tmp_path):
    head, body, _ = wait_room(tmp_path, "/v1/chat/completions", {"stream": True}, wakes)
    assert "Content-Type: text/event-stream" in head
    first, *rest = pieces(body).split("\n\n")
    assert first == ": waits for the engine since 0 s (its job is about to be submitted)"
    assert rest == ['data: {"x": 1}', "data: [DONE]", ""]


def test_a_stream_of_lines_has_blanks_before_the_first(tmp_path):
    head, body, _ = wait_room(tmp_path, "/api/generate", {"prompt": "Hi"}, wakes)
    assert "Content-Type: application/x-ndjson" in head
    assert pieces(body) == ' {"response": "Hi"}\n'


WHY = "the Ollama job 7 has ended (exit code 1: so it was); it is tried again when somebody asks."


def test_a_failure_is_told_in_the_shape_of_the_api(tmp_path):
    head, body, _ = wait_room(tmp_path, "/api/embed", {}, fails)
    assert head.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 10" in head
    assert json.loads(body) == {"error": WHY}


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("/api/chat", json.dumps({"error": WHY}) + "\n"),
        ("/v1/messages", "event: error\ndata: " + json.dumps(
            {"type": "error", "error": {"type": "overloaded_error", "message": WHY}}) + "\n\n"),
    ],
)  # fmt: skip
def test_a_failure_is_the_last_of_a_stream(tmp_path, target, last):
    _, body, _ = wait_room(tmp_path, target, {"stream": True}, fails)
    assert pieces(body).endswith(last)


def test_right_after_a_failure_nothing_is_tried(tmp_path):
    fails(EngineFiles(tmp_path))
    room = WaitingRoom(EngineFiles(tmp_path), None, "tiny")
    with pytest.raises(waiting.NoEngine, match=r"so it was\); it is tried again in \d+ s") as told:
        asyncio.run(room.handle(asks("/query"), None))
    assert 0 < int(told.value.headers["Retry-After"]) <= 10
    assert not (tmp_path / "wake").exists()


def test_who_has_waited_long_enough_is_told_when_to_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.3)
    head, body, _ = wait_room(tmp_path, "/query", {}, lambda _: None)
    assert head.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 30" in head
    assert "The engine is on its way" in json.loads(body)["error"]["message"]


def test_the_model_is_listed_without_waking_anybody(tmp_path):
    _, body, _ = wait_room(tmp_path, "/v1/models", {}, lambda _: None, "GET")
    assert [one["id"] for one in json.loads(body)["data"]] == ["tiny"]
    assert not (tmp_path / "wake").exists()


def test_who_waits_for_the_queue_is_told_how_long_as_far_as_that_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.3)
    (tmp_path / "engine").write_text("7\n\n")
    (tmp_path / "expected").write_text(f"{time.time() + 600:.0f}\n")
    head, body, _ = wait_room(tmp_path, "/query", {}, lambda _: None)
    again = int(head.partition("Retry-After: ")[2].split()[0])
    assert 600 < again <= 631
    assert "(job 7, which is to begin in " in json.loads(body)["error"]["message"]
