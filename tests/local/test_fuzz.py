"""The door as a job script opens it, asked what nobody would ask: bytes at random, bodies that are
almost right, and whatever the service's own description lets one think of.

The engine is a server that never fails, so that no status of 500 or more is true but for who
has gone. Everything is answered or closed in time, and no process grows. What is by chance is the
same each time.
"""

import contextlib
import json
import random
import resource
import socket
import string
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import pytest
from described import assault
from door_requests import connect, request
from doors import Door, door
from events import PATIENCE_S, until
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from known import MODEL, known_server

from client.compatible.translate.chat_bodies import ChatBody
from client.compatible.translate.completion_bodies import CompletionBody, EmbeddingBody
from client.compatible.translate.messages.bodies import MessagesBody
from client.compatible.translate.responses.bodies import ResponsesBody
from client.door import statistics

#: What a process of the door's may grow by, in bytes.
MAY_GROW = 50e6
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"model": MODEL, "prompt": "Hi"}
INPUT = {"model": MODEL, "input": ["Hi"]}
OLLAMAS = ("options", "format", "think", "keep_alive", "tools", "images", "template", "context",
           "raw", "truncate", "shift", "suffix", "name", "verbose", "dimensions", "logprobs",
           "max_tokens", "system", "temperature", "metadata")  # fmt: skip
#: Paths, what is right there, and other keys that are known there.
ROUTES = [
    ("/v1/chat/completions", CHAT, [*ChatBody.model_fields]),
    ("/v1/completions", TEXT, [*CompletionBody.model_fields]),
    ("/v1/embeddings", INPUT, [*EmbeddingBody.model_fields]),
    ("/v1/responses", {"model": MODEL, "input": "Hi"}, [*ResponsesBody.model_fields]),
    ("/v1/messages", {**CHAT, "max_tokens": 1}, [*MessagesBody.model_fields]),
    ("/v1/messages/count_tokens", CHAT, [*MessagesBody.model_fields]),
    ("/api/chat", CHAT, OLLAMAS),
    ("/api/generate", TEXT, OLLAMAS),
    ("/api/embed", INPUT, OLLAMAS),
    ("/api/embeddings", TEXT, OLLAMAS),
    ("/api/show", {"model": MODEL}, OLLAMAS),
    ("/query", {"prompt": "Hi"}, OLLAMAS),
]
FEW_SIGNS = st.text(st.characters(codec="utf-8"), max_size=12)
SAID = st.sampled_from([MODEL, "user", "assistant", "system", "tool", "json", "auto", "text", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | FEW_SIGNS | SAID,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        SAID | st.sampled_from(["role", "content", "type", "function", "num_predict"]),
        inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """One door for all; at the end it answers, the same processes run, and none has grown much."""
    with known_server(None, tokens=1) as server:  # noqa: SIM117
        with door(tmp_path_factory.mktemp("door"), [f"127.0.0.1:{server.port}"], 2) as opened:
            # What translates /v1 begins a moment after the door: until then that is 503.
            for path, right, _ in ROUTES:
                until(lambda: opened.ask(path, right).status < 500)  # noqa: B023
            before = resident(opened)
            yield opened
            assert opened.ask("/api/chat", CHAT).status == 200
            after = resident(opened)
    print(f"{before=} {after=}")
    assert {pid: after.get(pid) for pid in before if after[pid] > before[pid] + MAY_GROW} == {}


def resident(at: Door) -> dict[int, int]:
    """The memory of each of the door's processes that last, in bytes."""
    found = {}
    for pid, line in at.processes().items():
        if any(word in line for word in ("haproxy", "gunicorn", "client.compatible")):
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
            found[pid] = int(pages) * resource.getpagesize()
    return found


# --- bytes at random -----------------------------------------------------------------------------


def noise(chance, token):
    """Bytes at random, or a request with some of its bytes changed; and whether those are all in
    its body, so that it is whole."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(1, 3000)), False
    path, right, _ = chance.choice([*ROUTES, ("/health", {}, ()), ("/metrics", {}, ())])
    text = bytearray(request(token, path, json.dumps(right).encode()))
    begins = chance.choice([0, text.index(b"{")])
    for _ in range(chance.randrange(1, 8)):
        text[chance.randrange(begins, len(text))] = chance.randrange(256)
    return bytes(text), begins > 0


@pytest.mark.parametrize("amount", [300, pytest.param(6000, marks=pytest.mark.long)])
def test_bytes_at_random_are_refused_and_do_no_harm(at, amount):
    chance, token = random.Random(1), at.token_file.read_text().strip()
    said_by_status = Counter()
    for _ in range(amount):
        sent, whole = noise(chance, token)
        with connect(at) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(sent)
            if not whole:
                sock.shutdown(socket.SHUT_WR)  # so that nothing more is waited for
            said = sock.recv(65536)
            said_by_status[said[9:12]] += 1
            # 503: who has ended his side is taken for gone, and leaves the queue.
            good = b"234" if whole else b"2345"
            assert not said or said[9:10] in good, (sent, said)
    assert said_by_status[b"400"] > said_by_status[b"200"] > amount / 100, said_by_status


# --- bodies that are almost right ----------------------------------------------------------------


@st.composite
def bodies(draw):
    """A path, and the bytes of a body: what is right there, with some of its values changed."""
    path, right, keys = draw(st.sampled_from(ROUTES))
    body = {**right, "stream": draw(st.booleans())}
    body |= draw(st.dictionaries(st.sampled_from([*right, "stream", *keys]), VALUES, max_size=3))
    body |= draw(st.dictionaries(st.text(string.printable, max_size=8), VALUES, max_size=1))
    text = json.dumps(body).encode()
    cut = draw(st.none() | st.integers(0, len(text)))
    return path, text if cut is None or draw(st.booleans()) else text[:cut]


def check_bodies(at, amount):
    """Each is answered whole, and no failure is ours."""
    token = at.token_file.read_text().strip()
    host, port = at.at.split(":")
    fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    @settings(
        max_examples=amount, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(bodies())
    def answered(case):
        path, body = case
        with contextlib.closing(HTTPConnection(host, int(port), timeout=PATIENCE_S)) as connection:
            connection.request("POST", path, body, fields)
            answer = connection.getresponse()
            said = answer.read()
        assert answer.status < 500, (path, body, answer.status, said)

    answered()


@pytest.mark.parametrize("amount", [120, pytest.param(3000, marks=pytest.mark.long)])
def test_a_body_that_is_almost_right_is_answered_or_refused(at, amount):
    check_bodies(at, amount)


# --- what its own description lets one think of --------------------------------------------------


@pytest.mark.parametrize("examples", [5, pytest.param(200, marks=pytest.mark.long)])
def test_what_schemathesis_thinks_of_is_answered(at, tmp_path, monkeypatch, examples):
    """All routes but the one that starts benchmarks: each that is right takes seconds, of the one
    that there is at a time; and but that of logins, which this deployment does not have. Without a
    door both are tried among the unit tests."""
    document = tmp_path / "openapi.json"
    described = json.loads(at.ask("/openapi.json").body)
    del described["paths"]["/benchmark"], described["paths"]["/login"]
    document.write_text(json.dumps(described))
    monkeypatch.setenv("ORCH_FUZZ_TOKEN_FILE", str(at.token_file))
    before = requests_at(at)
    assault(document, tmp_path, examples, "--url", at.url)
    print(f"{requests_at(at) - before} requests")
    assert requests_at(at) - before > 10 * examples


def requests_at(at):
    """How many requests the door has had."""
    (config,) = {word for line in at.processes().values() for word in line.split()
                 if word.endswith("/door.cfg")}  # fmt: skip
    rows = statistics(Path(config).with_name("commands"))
    (found,) = [r for r in rows if (r["pxname"], r["svname"]) == ("door", "FRONTEND")]
    return int(found["req_tot"])
