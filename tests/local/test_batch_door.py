"""Batches at a real door: they stand behind all else, and who sends them is told of the room."""

import json
import os
import signal
import threading
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from batch_runs import made
from events import PATIENCE_S, until
from own_door import ALL, BOUNDARY, FORM_BEGINS, WAYS, Door

from contracts.named_tokens import remove_token

OWNER = "owners-word"
#: Lines of a batch that is not over before the next one has looked how much room there is.
MANY = 500
BATCH = {"Orch-Priority": "batch"}


@contextmanager
def started(folder, in_flight):
    made = Door(folder, in_flight)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    with started(tmp_path_factory.mktemp("narrow"), 1) as made:
        yield made


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    with started(tmp_path_factory.mktemp("wide"), 4) as made:
        yield made


@pytest.fixture
def door(narrow):
    """In front of an engine that is given one request at a time, and has answered none yet."""
    yield narrow.afresh()
    narrow.engine.let.release(ALL)


@pytest.fixture
def wide_door(wide):
    """In front of an engine that works on two at once, likewise."""
    yield wide.afresh()
    wide.engine.let.release(ALL)


@pytest.fixture
def own_door(tmp_path):
    """A door of this test alone."""
    with started(tmp_path, 4) as made:
        yield made


def slots(door, word=OWNER, **more):
    connection = HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", "/slots", headers={"Authorization": f"Bearer {word}", **more})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("path", WAYS)
def test_who_asks_something_goes_before_all_that_waits_of_batches(door, path):
    """Also if he comes last, and has much under way himself."""
    first = [door.begin(path, "first", OWNER)]
    until(lambda: door.engine.begun)
    many = [door.begin(path, "batch", OWNER, **BATCH) for _ in range(10)]
    until(lambda: door.waiting() == 10)
    others = [door.begin(path, "asked", OWNER) for _ in range(3)]
    until(lambda: door.waiting() == 13)
    door.engine.let.release(5)
    until(lambda: len(door.engine.begun) == 6)
    assert door.engine.begun[:4] == ["first", "asked", "asked", "asked"]
    assert not any(name.lower().startswith("orch-") for head in door.engine.heads for name in head)
    door.engine.let.release(ALL)
    assert {each.getresponse().status for each in first + many + others} == {200}


def test_slots_tells_what_is_under_way_of_each_kind(wide_door):
    door = wide_door
    assert slots(door) == (200, {"total": 2, "share": 2, "interactive": 0, "batch": 0})
    ways = list(WAYS)
    under_way = [door.begin(path, "batch", OWNER, **BATCH) for path in (*ways, ways[0])]
    until(lambda: slots(door)[1]["batch"] == 6)
    under_way += [door.begin(path, "asked", OWNER) for path in ways if path != "/query"]
    until(lambda: slots(door)[1]["interactive"] == 4)
    assert slots(door) == (200, {"total": 2, "share": 2, "interactive": 4, "batch": 6})
    door.engine.let.release(ALL)
    assert {each.getresponse().status for each in under_way} == {200}
    until(lambda: slots(door)[1] == {"total": 2, "share": 2, "interactive": 0, "batch": 0})
    assert door.status("GET", "/slots", "somebodys-word") == 401


def test_slots_are_no_more_than_a_token_may_have_at_once(wide_door):
    door = wide_door
    assert slots(door, door.give("clara", in_flight=1))[1]["total"] == 1
    assert slots(door, door.give("dora", in_flight=9))[1]["total"] == 2


def test_batches_that_ask_have_equal_parts_of_them(own_door):
    """Of each user likewise; one that asks no more is forgotten."""
    door = own_door
    clara = door.give("clara")

    def share(word, batch):
        return slots(door, word, **{"Orch-Batch": batch})[1]["share"]

    assert share(OWNER, "a") == 2
    assert [share(OWNER, "b"), share(OWNER, "a")] == [1, 1]
    assert [share(clara, "a"), share(OWNER, "a"), share(OWNER, "b")] == [1, 0.5, 0.5]
    until(lambda: share(clara, "a") == 2)


def test_two_batches_at_once_keep_all_slots_busy_and_no_more(own_door, tmp_path):
    """The first has all of them until the second comes."""
    door = own_door
    url, token = f"http://127.0.0.1:{door.port}", tmp_path / "owner"
    token.write_text(OWNER)
    batches = []
    for name in ("one", "two"):
        lines = [{"prompt": f"{name} {n}", "custom_id": f"{name} {n}"} for n in range(MANY)]
        (tmp_path / name).mkdir()
        batches.append(made(tmp_path / name, url, lines).start("--token-file", token))
    until(lambda: {one.split()[0] for one in door.engine.begun} == {"one", "two"})

    def settled():
        """Whether no more are under way than there is room for; if so many are, one of them ends.
        Fewer are between an answer and the next question: nothing is to end then, or on a busy
        machine all lines would be through before it is seen."""
        found = [slots(door)[1]["batch"] for _ in range(5)]
        if max(found) > 2:
            door.engine.let.release()
        return set(found) == {2}

    until(settled)
    assert [batch.poll() for batch in batches] == [None, None], "both go on"
    door.engine.let.release(ALL)
    for batch in batches:
        out, err = batch.communicate()
        assert batch.returncode == 0, out + err
    assert len(door.engine.begun) == len(set(door.engine.begun)) == 2 * MANY


def test_an_engine_that_does_not_answer_has_no_slots(own_door):
    door = own_door
    assert slots(door)[1]["total"] == 2
    door.engine.shutdown()
    door.engine.socket.close()
    until(lambda: slots(door)[1]["total"] == 0)


# --- /v1/files and /v1/batches ---

OWNERS_TOKENS = 'orch_user_prompt_tokens_total{user="owner"}'
PROMPTS = [f"p{number}" for number in range(12)]


def over(door, batch_id):
    """It, when it is over."""

    def found():
        batch = door.batch(batch_id)
        return batch if batch["status"] in ("completed", "failed", "cancelled") else None

    return until(found)


def worker_of(door):
    """The process of the client service that answers."""
    number = door.service.pid
    return int(Path(f"/proc/{number}/task/{number}/children").read_text())


def test_a_batch_is_worked_off_and_the_next_one_waits_for_it(wide_door):
    door = wide_door
    before = door.metrics().get(OWNERS_TOKENS, 0)
    first, second = door.begin_batch(PROMPTS), door.begin_batch(["other"])
    until(lambda: door.batch(first)["status"] == "in_progress")
    until(lambda: slots(door)[1]["batch"] > 0)
    assert door.batch(second)["status"] == "validating"
    door.engine.let.release(ALL)
    batch = over(door, first)
    assert (batch["status"], batch["errors"], batch["error_file_id"]) == ("completed", None, None)
    assert batch["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
    assert batch["usage"]["output_tokens"] == 24
    assert door.answered(batch) == sorted(PROMPTS) == sorted(set(door.engine.begun) - {"other"})
    assert over(door, second)["status"] == "completed"
    # Each of them is one of its user's.
    until(lambda: door.metrics()[OWNERS_TOKENS] - before == 5 * 13)
    assert not list(door.output.rglob("token"))
    until(lambda: not list(door.output.rglob("*.ledger.jsonl")))  # which goes once it is completed


def test_a_batch_that_is_cancelled_ends_at_once_and_keeps_what_it_has(wide_door):
    door = wide_door
    batch_id = door.begin_batch(PROMPTS)
    door.engine.let.release(3)
    until(lambda: door.batch(batch_id)["request_counts"]["completed"] == 3)
    assert door.call("POST", f"batches/{batch_id}/cancel")[1]["status"] == "cancelling"
    batch = over(door, batch_id)
    assert batch["status"] == "cancelled"
    # What is under way is not waited for, which the engine would answer after PATIENCE_S at best.
    assert batch["cancelled_at"] - batch["cancelling_at"] < PATIENCE_S / 4
    assert len(door.answered(batch)) == 3
    until(lambda: slots(door)[1]["batch"] == 0)
    assert door.call("POST", f"batches/{batch_id}/cancel")[0] == 409


def test_a_service_that_begins_again_goes_on_with_what_was_under_way(own_door):
    door = own_door
    batch_id = door.begin_batch(PROMPTS)
    door.engine.let.release(5)
    until(lambda: door.batch(batch_id)["request_counts"]["completed"] == 5)
    until(lambda: len(door.engine.begun) == 5 + 2)  # so many more are under way, and stay so
    before = set(door.engine.begun)
    worker = worker_of(door)
    door.service.kill()
    os.kill(worker, signal.SIGKILL)
    door.service.wait()
    door.serve()
    door.engine.let.release(ALL)
    until(lambda: door.status("GET", f"/v1/batches/{batch_id}") == 200)
    batch = over(door, batch_id)
    assert batch["status"] == "completed", batch
    assert door.answered(batch) == sorted(PROMPTS)
    twice = [one for one in set(door.engine.begun) if door.engine.begun.count(one) > 1]
    assert len(twice) <= len(before) - 5, "what was answered is not asked again"


def test_a_batch_ends_with_the_token_of_who_has_asked_for_it(door):
    word = door.give("anna")
    batch_id = door.begin_batch(PROMPTS, word)
    until(lambda: door.engine.begun)
    remove_token(door.tokens, "anna")
    until(lambda: door.status("GET", "/v1/files", word) == 401)
    door.engine.let.release(ALL)
    file = next(door.output.glob(f"deployments/*/batches/jobs/{batch_id}/batch.json"))
    until(lambda: json.loads(file.read_text())["status"] == "failed")
    assert over(door, door.begin_batch(["mine"]))["status"] == "completed"


def test_a_line_that_is_wrong_is_named_and_nothing_is_sent(door):
    file_id = door.upload([b'{"prompt": "right"}\n{"promt": "wrong"}\n'])
    (error,) = errors_of(door, file_id, "/v1/chat/completions")
    assert error["line"] == 2 and error["message"].startswith("line 2 of in.jsonl has")


def test_a_line_for_another_endpoint_than_the_batchs_is_wrong(door):
    body = {"input": "a", "prompt": "a"}
    urls = ("/v1/embeddings", "/v1/completions", "/v1/embeddings")
    lines = [json.dumps({"custom_id": f"c{n}", "url": url, "body": body}) + "\n"
             for n, url in enumerate(urls)]  # fmt: skip
    (error,) = errors_of(door, door.upload([line.encode() for line in lines]), "/v1/embeddings")
    assert (error["line"], error["code"]) == (2, "invalid_line")
    assert 'asks at "/v1/completions", but the endpoint of the batch is' in error["message"]


def errors_of(door, file_id, endpoint):
    """What is wrong with a batch, of which nothing is sent."""
    body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
    batch = over(door, door.call("POST", "batches", json.dumps(body))[1]["id"])
    assert batch["status"] == "failed" and not door.engine.begun
    return batch["errors"]["data"]


def test_a_large_file_takes_little_memory_and_nobody_waits_for_it(door):
    worker = worker_of(door)

    def megabytes():
        status = Path(f"/proc/{worker}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    before, done, statuses = megabytes(), threading.Event(), []

    def look():
        while not done.is_set():
            statuses.append(door.status("GET", "/health"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        file_id = door.upload([b"x" * 1_000_000] * 300)
    finally:
        done.set()
        looking.join()
    assert door.call("GET", f"files/{file_id}")[1]["bytes"] == 300_000_000
    assert megabytes() - before < 30
    assert statuses and set(statuses) == {200}


def test_what_is_larger_than_may_be_is_refused_before_it_comes(door):
    head = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = iter([FORM_BEGINS, b"x" * 200_000])
    status, said = door.call("POST", "files", body, **head, **{"Content-Length": str(2 << 30)})
    assert (status, said["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "files"), ("GET", "batches/a/b"), ("DELETE", "batches/a")]
)
def test_what_there_is_not_is_said_as_openai_says_it(door, method, path):
    status, said = door.call(method, path)
    assert status in (404, 405) and said["error"]["type"] == "invalid_request_error"
