"""The door as a job script opens it, in front of servers with known times: many engines, engines
that die or come, more requests than there is room for."""

import contextlib
import json
import os
import resource
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest
from door_requests import send
from doors import ENGINES_JOB, door
from events import until
from known import MODEL, known_server

from client.door import ENGINES, EngineServers, statistics
from client.ollama.addresses import AddressFile
from contracts.load import MOST_WAITING

REPLICAS, KILLED = 24, 8
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@contextlib.contextmanager
def opened(folder, count, most=None, parallel=2, **pace):
    """A door, and the servers behind it."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(known_server(None, **pace)) for _ in range(count)]
        yield stack.enter_context(door(folder, addresses(servers), parallel, most)), servers


def addresses(servers):
    return [f"127.0.0.1:{server.port}" for server in servers]


def outcome(at):
    """The status of a chat's answer; "broken off" if it was 200 and did not come whole."""
    try:
        answer = at.ask("/api/chat", CHAT)
    except (OSError, HTTPException):
        return "broken off"
    whole = answer.status != 200 or b'"done":true' in answer.body
    return answer.status if whole else "broken off"


def test_all_replicas_get_their_share_of_the_work(tmp_path):
    with opened(tmp_path, REPLICAS, ttft=0.1, itl=0, tokens=1, slots=2) as (at, servers):
        with ThreadPoolExecutor(2 * REPLICAS) as pool:
            asked = [pool.submit(outcome, at) for _ in range(20 * REPLICAS)]
            assert [one.result() for one in asked] == [200] * len(asked)
        counts = [len(server.requests()) for server in servers]
    assert sum(counts) >= len(asked)
    assert min(counts) >= 10 and max(counts) <= 40, counts


def test_of_replicas_that_die_only_what_they_were_answering_fails(tmp_path):
    """Whatever had not begun goes to the others, also if it had been sent to one that died."""
    with opened(tmp_path, REPLICAS, ttft=0.1, itl=0.01, tokens=8, slots=2) as (at, servers):  # noqa: SIM117
        with ThreadPoolExecutor(3 * REPLICAS) as pool:
            asked = [pool.submit(outcome, at) for _ in range(20 * REPLICAS)]
            until(lambda: sum(one.done() for one in asked) > 2 * REPLICAS)
            for server in servers[:KILLED]:
                os.kill(server.pid, signal.SIGKILL)
            found = [one.result() for one in asked]
    assert set(found) <= {200, "broken off"}
    assert found.count("broken off") <= 2 * KILLED, "what has begun, of two each at most"


def test_a_replica_that_comes_gets_requests(tmp_path):
    with opened(tmp_path, 2, most=3, itl=0, tokens=1) as (at, servers):  # noqa: SIM117
        with known_server(None, itl=0, tokens=1) as third:
            at.at_engines(addresses([*servers, third]))
            until(lambda: outcome(at) == 200 and third.requests())


def test_a_connection_to_an_engine_is_there_for_the_next_request_of_whomever(tmp_path):
    with opened(tmp_path, 1, itl=0, tokens=1) as (at, _):  # noqa: SIM117
        with contextlib.closing(at.connection()) as connection:

            def free():  # before the door closes what nobody needs
                connection.request("POST", "/api/chat", json.dumps(CHAT), at.fields)
                assert b'"done":true' in connection.getresponse().read()
                rows = statistics(at.commands, ENGINES)
                return any(int(row["srv_icur"] or 0) for row in rows if row["svname"] == "engine1")

            until(free)


@pytest.fixture
def many_files():
    """Leave to open more files than a process commonly may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def answered(socks, count):
    """What came on those connections that are answered, once there are so many."""
    poll = select.poll()
    by_number = {sock.fileno(): sock for sock in socks}
    for number in by_number:
        poll.register(number, select.POLLIN)

    def enough():
        found = poll.poll(0)
        return found if len(found) >= count else None

    return [by_number[number].recv(65536) for number, _ in until(enough)]


def test_what_there_is_no_room_for_is_refused_at_once(tmp_path, many_files):
    """The engine takes three and answers none; so many wait, and the others are told to come
    again, by each API in its own form. All else goes on."""
    with contextlib.ExitStack() as stack:
        at, _ = stack.enter_context(opened(tmp_path, 1, parallel=1, ttft=3600, slots=1))
        sent = []
        for _ in range(MOST_WAITING + 3 + 7):
            sent.append(stack.enter_context(contextlib.closing(send(at, "/api/chat", CHAT))))
        refused = answered(sent, 7)
        assert len(refused) == 7
        for answer in refused:
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503") and b"\r\nretry-after: 5" in head.lower()
            assert "too many requests wait" in json.loads(body)["error"]
        translated = at.ask("/v1/chat/completions", CHAT)
        assert (translated.status, translated.retry_after) == (503, "5")
        assert json.loads(translated.body)["error"]["code"] == "queue_full"
        assert at.ask("/health").status == 200 and at.ask("/openapi.json").status == 200


def test_without_an_engine_the_error_has_the_form_of_the_api(tmp_path):
    with opened(tmp_path, 1) as (at, (server,)):
        os.kill(server.pid, signal.SIGKILL)
        native = until(lambda: (found := at.ask("/api/chat", CHAT)).status == 503 and found)
        assert "no engine that answers" in json.loads(native.body)["error"]
        translated = at.ask("/v1/chat/completions", CHAT)
        assert (translated.status, translated.retry_after) == (503, "5")
        assert "no engine that answers" in json.loads(translated.body)["error"]["message"]


def test_the_door_says_which_engine_works(tmp_path):
    """So that a look at the health does not wait behind what others have asked."""
    with opened(tmp_path, 2, ttft=3600) as (at, servers):
        known = EngineServers(AddressFile(at.output, ENGINES_JOB), at.commands)
        known.look()
        assert not known.outstanding().total()
        with contextlib.closing(send(at, "/api/chat", CHAT)):
            until(lambda: known.outstanding().total())
            worked = known.outstanding()
        assert sorted(worked[address] for address in addresses(servers)) == [0, 1]
        assert worked["127.0.0.1:1"] == 0
