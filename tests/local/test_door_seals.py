"""Door, seals and servers with known times, all as jobs start them: an engine that dies behind its
seal, and one that dies with it."""

import contextlib
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from doors import door
from events import until
from haproxy import seal
from known import MODEL, known_server

TOKEN = "inner-word"
#: Each answer is one piece, which comes after so long: until then none has begun.
PACE = {"ttft": 0.3, "itl": 0, "tokens": 1, "slots": 2}
BODIES = {
    "/query": {"prompt": "Why?"},
    "/api/chat": {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]},
    "/v1/chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]},
}


@pytest.fixture
def sealed(tmp_path):
    """A door, and the three engines and seals behind it."""
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(known_server(None, **PACE)) for _ in range(3)]
        places, seals = [], []
        for engine in engines:
            with socket.create_server(("127.0.0.1", 0)) as free:
                places.append(f"127.0.0.1:{free.getsockname()[1]}")
            seals.append(stack.enter_context(seal(f"127.0.0.1:{engine.port}", places[-1], TOKEN)))
        yield stack.enter_context(door(tmp_path, places, 2, internal_token=TOKEN)), engines, seals


def working(engine):
    return engine.seen()["in_flight"] > 0


def test_what_had_not_begun_where_an_engine_dies_is_answered_elsewhere(sealed):
    at, engines, seals = sealed
    ways = list(BODIES) * 20
    with ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(at.ask, path, BODIES[path]) for path in ways]
        until(lambda: sum(one.done() for one in asked) > 6 and working(engines[0]))
        os.kill(engines[0].pid, signal.SIGKILL)  # its seal still takes connections
        until(lambda: sum(one.done() for one in asked) > 20 and working(engines[1]))
        for pid in (seals[1].pid, engines[1].pid):
            os.kill(pid, signal.SIGKILL)
        found = [one.result() for one in asked]
    assert [answer.status for answer in found] == [200] * len(ways), {a.body for a in found}
    assert b'"retried":true' in b"".join(answer.body for answer in found)
    until(lambda: b"orch_door_replicas_up 1.0" in at.ask("/metrics").body)
    assert at.ask("/query", BODIES["/query"]).status == 200
