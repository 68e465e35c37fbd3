"""A door that has a successor: what is asked here is answered there, and the client goes there."""

import contextlib
import json
from http.client import HTTPConnection

import pytest
from events import PATIENCE_S, until
from own_door import ALL, Door

from client.handover.door import Door as Told
from contracts.job_files import chain_folder

OWNER = "owners-word"
HEAD = {"Authorization": f"Bearer {OWNER}"}


@pytest.fixture
def doors(tmp_path):
    """Two of one deployment: that of a job, and that of the next one."""
    with contextlib.ExitStack() as started:
        made = [Door(tmp_path, engine_job=job) for job in (41, 42)]
        for door in made:
            started.callback(door.close)
            door.start()
        yield made


def at(door):
    return f"http://127.0.0.1:{door.port}"


def forward(old, new):
    Told(old.folder).forward(at(new))
    until(lambda: asked(old, "GET", "/slots", HEAD)[1]["orch-address"])


def asked(door, method, path, head, body=None):
    """Status and head of an answer."""
    connection = HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, head)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers


def test_who_keeps_his_connection_is_told_and_comes_anew(doors):
    """By https nobody in between could see that he is to go elsewhere: the door closes."""
    old, new = doors
    connection = HTTPConnection("127.0.0.1", old.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):

        def again():
            connection.request("GET", "/slots", headers=HEAD)
            answer = connection.getresponse()
            assert answer.read() and answer.status == 200
            return answer.headers["orch-address"], answer.will_close

        assert again() == (None, False)
        Told(old.folder).forward(at(new))
        assert until(lambda: (found := again())[0] and found) == (at(new), True)
        Told(old.folder).redirect(at(new))
        connection.request("GET", "/slots", headers=HEAD)
        moved = connection.getresponse()
        assert (moved.status, moved.headers["Location"]) == (307, f"{at(new)}/slots")
    in_path = asked(old, "GET", f"/{OWNER}/api/tags?a=b", {})[1]["Location"]
    assert in_path == f"{at(new)}/{OWNER}/api/tags?a=b", "whose token is in the path, keeps it"


def test_a_door_that_keeps_what_comes_again_sends_nobody_away(doors):
    """The next one is lost, and another one takes its place."""
    old, new = doors
    forward(old, new)
    Told(old.folder).redirect(at(new))
    assert asked(old, "GET", "/slots", HEAD)[0] == 307
    Told(old.folder).keep()
    status, head = asked(old, "GET", "/slots", HEAD)
    assert (status, head["orch-address"]) == (200, None)
    forward(old, new)
    assert asked(old, "GET", "/slots", HEAD)[0] == 200


def test_a_browsers_requests_are_its_bearers_at_the_next_door_too(doors):
    old, new = doors
    word = old.give("clara", in_flight=1)
    until(lambda: new.status("GET", "/slots", word) == 200)
    cookie = cookie_of(old, word)
    forward(old, new)
    body = json.dumps({"model": "known", "prompt": "one", "stream": False})
    by_page = {"Cookie": cookie, "Orch-Page": "1", "Content-Type": "application/json"}
    first = HTTPConnection("127.0.0.1", old.port, timeout=PATIENCE_S)
    with contextlib.closing(first):
        # Whom a browser, or a token, claims to be does not count.
        first.request("POST", "/api/generate", body, {**by_page, "Orch-Browser": "owner"})
        until(lambda: new.engine.begun == ["one"])
        token = {"Authorization": f"Bearer {word}", "Content-Type": "application/json"}
        for claimed in ({}, {"Orch-Browser": "owner"}):
            assert asked(new, "POST", "/api/generate", {**token, **claimed}, body)[0] == 429
        new.engine.let.release(ALL)
        assert first.getresponse().status == 200
    claims_to_be_her = {**token, **HEAD, "Orch-Browser": "clara"}
    assert asked(new, "POST", "/api/generate", claims_to_be_her, body)[0] == 200
    counts = {user: f'orch_user_requests_total{{user="{user}"}}' for user in ("clara", "owner")}
    until(lambda: [new.metrics().get(counts[user]) for user in ("clara", "owner")] == [3, 1])


def cookie_of(door, word):
    """What a browser sends that has opened a link of a bearer's."""
    connection = HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", "/links", headers={"Authorization": f"Bearer {word}"})
        path = json.loads(connection.getresponse().read())["path"]
    return asked(door, "GET", path, {})[1]["Set-Cookie"].partition(";")[0]


def test_a_batch_goes_on_at_the_next_door_and_nothing_answered_is_asked_again(doors):
    """So does one that waits, of which the service of the next job was not told when it began."""
    old, new = doors
    lines = [f"p{number}" for number in range(60)]
    batch, waits = old.begin_batch(lines), old.begin_batch(["other"])
    until(lambda: old.engine.begun)
    old.engine.let.release(10)
    until(lambda: old.batch(batch)["request_counts"]["completed"] == 10)
    until(lambda: len(old.engine.begun) == 10 + 1)  # else the next one may go to the next door
    forward(old, new)
    until(lambda: new.engine.begun)
    assert old.batch(batch)["status"] == "in_progress"
    assert old.batch(batch)["request_counts"]["completed"] == 10
    new.engine.let.release(ALL)
    for one in (batch, waits):
        until(lambda one=one: old.batch(one)["status"] == "completed")
    assert len(new.engine.begun) == len(set(new.engine.begun)) == len(lines) - 10 + 1
    assert old.answered(old.batch(batch)) == sorted(lines)


def test_a_benchmark_goes_on_and_the_next_door_says_how_far_it_is(doors, tmp_path):
    old, new = doors
    chain_folder(tmp_path, old.deployment).mkdir(parents=True)
    load = {"id": "long", "n_clients": 2, "n_requests_per_client": 5, "wait": False, "warmup": 0}
    head = {"Content-Type": "application/json"}
    assert old.call("POST", "/benchmark", json.dumps(load), **head)[0] == 202
    until(lambda: len(old.engine.begun) == 2)
    forward(old, new)
    old.engine.let.release(3)
    until(lambda: (old.call("GET", "/benchmark/long")[1]["progress"] or {}).get("done") == 3)
    old.engine.let.release(ALL)
    until(lambda: old.call("GET", "/benchmark/long")[1]["state"] == "done")
    ended = old.call("GET", "/benchmark/long")[1]
    assert (ended["successful"], new.engine.begun) == (10, [])
