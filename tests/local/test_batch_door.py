"""Batches at a real door: they stand behind all else, and who sends them is told of the room."""

import json
from contextlib import closing
from http.client import HTTPConnection

import pytest
from events import PATIENCE_S, until
from own_door import ALL, WAYS, Door

BATCH = {"Orch-Priority": "batch"}


@pytest.fixture
def door(tmp_path):
    made = Door(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def wide_door(tmp_path):
    """In front of an engine that works on two at once."""
    made = Door(tmp_path, in_flight=4)
    try:
        made.start()
        yield made
    finally:
        made.close()


def slots(door):
    connection = HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", "/slots", headers={"Authorization": "Bearer owners-word"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("path", WAYS)
def test_who_asks_something_goes_before_all_that_waits_of_batches(door, path):
    """Also if he comes last, and has much under way himself."""
    anna = door.give("anna")
    first = [door.begin(path, "first", anna)]
    until(lambda: door.engine.begun)
    many = [door.begin(path, "batch", anna, **BATCH) for _ in range(10)]
    until(lambda: door.waiting() == 10)
    others = [door.begin(path, "asked", anna) for _ in range(3)]
    until(lambda: door.waiting() == 13)
    door.engine.let.release(5)
    until(lambda: len(door.engine.begun) == 6)
    assert door.engine.begun[:4] == ["first", "asked", "asked", "asked"]
    assert not any(name.lower().startswith("orch-") for head in door.engine.heads for name in head)
    door.engine.let.release(ALL)
    assert {each.getresponse().status for each in first + many + others} == {200}


def test_slots_tells_what_is_under_way_of_each_kind(wide_door):
    door = wide_door
    assert slots(door) == (200, {"total": 2, "interactive": 0, "batch": 0})
    ways = list(WAYS)
    under_way = [door.begin(path, "batch", "owners-word", **BATCH) for path in (*ways, ways[0])]
    until(lambda: slots(door)[1]["batch"] == 6)
    under_way += [door.begin(path, "asked", "owners-word") for path in ways if path != "/query"]
    until(lambda: slots(door)[1]["interactive"] == 4)
    assert slots(door) == (200, {"total": 2, "interactive": 4, "batch": 6})
    door.engine.let.release(ALL)
    assert {each.getresponse().status for each in under_way} == {200}
    until(lambda: slots(door) == (200, {"total": 2, "interactive": 0, "batch": 0}))
    assert door.status("GET", "/slots", "somebodys-word") == 401


def test_an_engine_that_does_not_answer_has_no_slots(door):
    assert slots(door) == (200, {"total": 1, "interactive": 0, "batch": 0})
    door.engine.shutdown()
    door.engine.socket.close()
    until(lambda: slots(door)[1]["total"] == 0)
