"""Tokens by name at a real door: who is let in, what he may, whose turn it is, what is counted."""

import contextlib
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
from events import PATIENCE_S, until
from own_door import ALL, WAYS, Door
from place import SMALL, http, wait_for

from contracts.files import write_whole
from contracts.named_tokens import (
    NamedToken,
    digest_of,
    keep_token,
    read_usage,
    remove_token,
    usage_file,
)

#: Requests, and how many of them at once.
BURST, ASKING = 2000, 20


@pytest.fixture
def door(tmp_path):
    made = Door(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_a_token_opens_until_it_is_revoked_and_is_remembered(door):
    assert door.status("GET", "/api/version", "annas-word") == 401
    word = door.give("anna")
    assert door.status("GET", "/health", word) == 200
    door.service.kill()  # all of it but HAProxy begins anew
    door.service.wait()
    remove_token(door.tokens, "anna")
    bert = digest_of("berts-word")
    keep_token(door.tokens, "bert", NamedToken(sha256=bert, created=time.time()))
    door.serve()
    until(lambda: door.status("GET", "/api/version", word) == 401)
    until(lambda: door.status("GET", "/api/version", "berts-word") == 200)


def test_one_right_token_is_enough(door):
    """The package anthropic sends what it is given, and beside it ANTHROPIC_API_KEY, which may be
    another server's."""
    for bearer, key, status in (
        ("owners-word", "elsewhere's", 200),
        ("elsewhere's", "owners-word", 200),
        ("elsewhere's", "nobody's", 401),
    ):
        head = {"Authorization": f"Bearer {bearer}", "X-Api-Key": key}
        assert door.call("GET", "models", **head)[0] == status


def test_a_token_expires(door):
    word = door.give("anna", expires=time.time() + 3600)  # it opens, however late that is seen
    (file,) = door.tokens.iterdir()
    token = NamedToken(sha256=digest_of(word), created=time.time(), expires=time.time() + 3)
    write_whole(file, [token.model_dump_json()], 0o600)
    until(lambda: door.status("GET", "/api/version", word) == 401)
    assert door.status("GET", "/api/version") == 200


def test_a_file_that_is_no_token_shuts_nobody_out(door):
    (door.tokens.parent / "tokens").mkdir(exist_ok=True)
    (door.tokens / "broken.json").write_text("{")
    assert door.status("GET", "/api/version", door.give("anna")) == 200


@pytest.mark.parametrize("path", WAYS)
def test_more_at_once_than_a_token_may_is_refused_in_the_form_of_the_api(door, path):
    word = door.give("anna", in_flight=2)
    under_way = [door.begin(path, "x", word) for _ in range(2)]
    until(lambda: door.engine.begun and door.waiting() == 1)
    status, head, said = door.ask(path, "y", word)
    assert (status, head["Retry-After"]) == (429, "1")
    message = said["error"]
    if path != "/api/generate":
        message = message["message"]
        kinds = {"/v1/messages": "rate_limit_error", "/query": "too_many_requests"}
        assert said["error"]["type"] == kinds.get(path, "requests")
        assert ("type" in said) == (path == "/v1/messages")
    assert "limit of requests at once" in message
    for route in ("/health", "/metrics"):
        assert door.status("GET", route, word) == 200
    door.engine.let.release(ALL)
    assert [one.getresponse().status for one in under_way] == [200, 200]
    until(lambda: door.ask(path, "z", word)[0] == 200)


def test_more_a_minute_than_a_token_may_is_refused_and_what_is_looked_at_does_not_count(door):
    word = door.give("anna", per_minute=3)
    door.engine.let.release(ALL)
    for _ in range(20):
        assert door.status("GET", "/health", word) == 200
    answers = [door.ask("/api/generate", "x", word) for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
    assert 0 < int(answers[-1][1]["Retry-After"]) <= 60
    assert "a minute" in answers[-1][2]["error"]
    assert door.ask("/api/generate", "x", "owners-word")[0] == 200


@pytest.mark.parametrize("path", WAYS)
def test_who_asks_once_waits_for_one_request_of_who_asks_for_much(door, path):
    """The order of service, on each way, whatever headers they send."""
    anna, bert = door.give("anna"), door.give("bert")
    many = [door.begin(path, "anna", anna, **{"Orch-Turn": "0", "Orch-User": "bert"})
            for _ in range(200)]  # fmt: skip
    until(lambda: door.engine.begun and door.waiting() == 199)
    one = door.begin(path, "bert", bert)
    until(lambda: door.waiting() == 200)
    door.engine.let.release(2)
    until(lambda: len(door.engine.begun) == 3)
    # If her second has overtaken her first on its way, that has its turn, too.
    assert "bert" in door.engine.begun
    assert not any(name.lower().startswith("orch-") for head in door.engine.heads for name in head)
    door.engine.let.release(ALL)
    assert one.getresponse().status == 200
    assert {each.getresponse().status for each in many} == {200}


def test_what_each_name_has_used_and_how_long_requests_waited_is_counted(door):
    word = door.give("anna")
    door.engine.let.release(ALL)
    for path in WAYS:
        assert door.ask(path, "x", word)[0] == 200
    assert door.ask("/query", "x", "owners-word")[0] == 200
    assert door.ask("/query", "x", word)[0] == 200
    named = '{user="anna"}'
    # What goes to /api/… unread has no counts of tokens. Who reads an answer reports them, and the
    # door the request, either of them first.
    counts = {
        f"orch_user_requests_total{named}": 6,
        'orch_user_requests_total{user="owner"}': 1,
        f"orch_user_prompt_tokens_total{named}": 25,
        f"orch_user_generation_tokens_total{named}": 10,
        'orch_queue_wait_seconds_count{queue="engines"}': 7,  # all ways
        'orch_queue_wait_seconds_count{queue="queries"}': 3,
    }
    until(lambda: counts.items() <= door.metrics().items(), what="these counts")
    found = door.metrics()
    assert found[f"orch_user_request_seconds_total{named}"] > 0
    assert found["orch_door_replicas_up"] == 1
    file = usage_file(door.output, door.deployment)
    until(lambda: read_usage(file).users.keys() == {"anna", "owner"})
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(word in each.read_text() for each in door.tokens.iterdir())


def test_a_burst_is_counted_whole_though_who_counts_is_late(door):
    word = door.give("anna")

    def ask_some():
        with contextlib.closing(HTTPConnection("127.0.0.1", door.port)) as connection:
            for _ in range(BURST // ASKING):
                connection.request("POST", "/api/show", "{}", {"Authorization": f"Bearer {word}"})
                connection.getresponse().read()

    master = door.service.pid
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for pid in workers:
        os.kill(int(pid), signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(ASKING) as many:
            for asked in [many.submit(ask_some) for _ in range(ASKING)]:
                asked.result(PATIENCE_S)
    finally:
        for pid in workers:
            os.kill(int(pid), signal.SIGCONT)
    until(lambda: door.metrics().get('orch_user_requests_total{user="anna"}') == BURST)


# --- a deployment --------------------------------------------------------------------------------


def test_a_colleague_uses_a_deployment_until_his_token_is_revoked(place):
    """From orch's command line to Ollama and back to its list."""
    record = place.deploy(place.recipe(model=str(SMALL)))

    def tokens(*words):
        result = place.orch("--token", *words, record["id"], "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout or "null")

    given = tokens("add", "anna")
    url, word = given["url"], given["token"]
    wait_for(lambda: http("GET", f"{url}/health", token=word)[0] == 200, PATIENCE_S)
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 3}
    _, answer = http("POST", f"{url}/v1/chat/completions", chat, token=word)
    counts = answer["usage"]

    def used():
        return {entry["name"]: entry for entry in tokens("list")}["anna"]

    # Request and tokens are reported each for itself.
    expected = {name: counts[name] for name in ("prompt_tokens", "completion_tokens")}
    expected["requests"] = 1
    wait_for(lambda: expected.items() <= used().items(), PATIENCE_S, lambda: f"not {expected}")
    tokens("revoke", "anna")
    wait_for(lambda: http("GET", f"{url}/health", token=word)[0] == 401, PATIENCE_S)
    assert http("GET", f"{url}/health")[0] == 200
    written = subprocess.run(["grep", "-rlF", given["token"], place.output], capture_output=True)
    assert written.stdout == b"", "nothing holds the token itself"
