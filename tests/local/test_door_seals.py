"""Door, seals and servers with known times, all as jobs start them: an engine that dies behind its
seal, and one that dies with it."""

import contextlib
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

from doors import door
from events import PATIENCE_S, until
from haproxy import seal
from known import MODEL, known_server

from client.door import ENGINES, statistics
from contracts.load import WAITING_IN_ENGINE

TOKEN = "inner-word"
GIVEN = 2 + WAITING_IN_ENGINE  # requests that an engine has at once
#: Each answer is one piece, which comes after so long: until then none has begun.
PACE = {"ttft": 0.3, "itl": 0, "tokens": 1, "slots": 2}
BODIES = {
    "/query": {"prompt": "Why?"},
    "/api/chat": {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]},
    "/v1/chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]},
}


@contextlib.contextmanager
def sealed(tmp_path, count, **more):
    """A door, and the engines and seals behind it."""
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(known_server(None, **PACE | more)) for _ in range(count)]
        places, seals = [], []
        for engine in engines:
            with socket.create_server(("127.0.0.1", 0)) as free:
                places.append(f"127.0.0.1:{free.getsockname()[1]}")
            seals.append(stack.enter_context(seal(f"127.0.0.1:{engine.port}", places[-1], TOKEN)))
        yield stack.enter_context(door(tmp_path, places, 2, internal_token=TOKEN)), engines, seals


def working(engine):
    return engine.seen()["in_flight"] > 0


def full(engine):
    """Whether it has all that the door gives it at once: then nothing is on its way to its seal, of
    which HAProxy 2.6 sends nothing again if the seal is killed just then (docs/operations.md)."""
    return engine.seen()["in_flight"] == GIVEN


def dead(engines):
    """Which of them have ended; their parent has not looked yet."""
    states = [Path(f"/proc/{engine.pid}/stat").read_text().split()[2] for engine in engines]
    return [number for number, state in enumerate(states) if state == "Z"]


def test_what_had_not_begun_where_an_engine_dies_is_answered_elsewhere(tmp_path):
    ways = list(BODIES) * 20
    with sealed(tmp_path, 3) as (at, engines, seals), ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(at.ask, path, BODIES[path]) for path in ways]
        until(lambda: sum(one.done() for one in asked) > 6 and working(engines[0]))
        os.kill(engines[0].pid, signal.SIGKILL)  # its seal still takes connections
        until(lambda: sum(one.done() for one in asked) > 20 and full(engines[1]))
        for pid in (seals[1].pid, engines[1].pid):
            os.kill(pid, signal.SIGKILL)
        found = [one.result() for one in asked]
        assert [answer.status for answer in found] == [200] * len(ways), {a.body for a in found}
        assert b'"retried":true' in b"".join(answer.body for answer in found)
        until(lambda: b"orch_door_replicas_up 1.0" in at.ask("/metrics").body)
        assert at.ask("/query", BODIES["/query"]).status == 200


def test_of_six_replicas_two_that_die_at_once_lose_nothing_that_had_not_begun(tmp_path):
    ways = list(BODIES) * 15
    slow = sealed(tmp_path, 6, ttft=2)  # enough that both can be seen at once, one after another
    with slow as (at, engines, seals), ThreadPoolExecutor(36) as pool:
        asked = [pool.submit(at.ask, path, BODIES[path]) for path in ways]
        until(lambda: all(map(full, engines[:2])))
        for one in (*seals[:2], *engines[:2]):
            os.kill(one.pid, signal.SIGKILL)
        found = [one.result() for one in asked]
        assert [answer.status for answer in found] == [200] * len(ways), {a.body for a in found}


def test_the_next_on_a_kept_connection_whose_engine_has_died_is_answered_elsewhere(tmp_path):
    """Once while its seal still takes what comes, and once with its seal."""
    with sealed(tmp_path, 3, ttft=0) as (at, engines, seals):

        def counts():
            rows = {row["svname"]: row for row in statistics(at.commands, ENGINES)}
            return [int(rows[f"engine{number}"]["stot"]) for number in (1, 2, 3)]

        with contextlib.closing(at.connection(PATIENCE_S)) as kept:

            def who_answers():
                before = counts()
                kept.request("POST", "/api/chat", json.dumps(BODIES["/api/chat"]), at.fields)
                answer = kept.getresponse()
                assert (answer.status, b'"done":true' in answer.read()) == (200, True)
                after = counts()
                (one,) = (n for n in range(3) if after[n] > before[n] and n not in gone)
                return one

            gone = set()
            for with_seal in (False, True):
                who_answers()
                one = who_answers()
                if with_seal:
                    os.kill(seals[one].pid, signal.SIGKILL)
                os.kill(engines[one].pid, signal.SIGKILL)
                gone.add(one)
            assert who_answers() not in gone


def test_what_kills_its_engine_is_sent_to_two_others_and_no_more(tmp_path):
    with sealed(tmp_path, 10, dies_of="deadly") as (at, engines, seals):
        for path, body in BODIES.items():  # what translates /v1 has a connection from then on
            assert at.ask(path, body).status == 200
        for number, (path, body) in enumerate(BODIES.items(), start=1):
            deadly = json.loads(json.dumps(body).replace("Why?", "deadly"))
            with contextlib.suppress(HTTPException, OSError):  # /api has no answer
                answer = at.ask(path, deadly)
                assert answer.status in (502, 503), answer.body
                assert b"died three times" in answer.body or b"closed the connection" in answer.body
            until(lambda so_many=3 * number: len(dead(engines)) >= so_many)
            for gone in dead(engines):
                seals[gone].kill()  # so does its job
        assert len(dead(engines)) == 3 * len(BODIES)
        assert at.ask("/query", BODIES["/query"]).status == 200
