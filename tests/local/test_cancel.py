"""Whoever leaves frees the engine: a real one with one slot, behind the door, by each API.

What it would have done for who has left is known by what it does for who stays: in seconds of its
CPU, which a busy machine does not make more.
"""

import contextlib
import json
import os
import re
from pathlib import Path
from time import perf_counter

import pytest
from door_requests import send
from doors import Door
from events import PATIENCE_S, until
from place import SMALL

WAYS = {"/query": "/api/generate", "/api/chat": "/api/chat", "/v1/chat/completions": "/api/chat"}
STORY = "Write a very long story about a river, with many chapters."
#: Of a long answer; of one that nobody waits for; words of a long prompt; what one slot is given
#: at once by the door.
TOKENS, LONG, WORDS, GIVEN = 150, 1800, 40, 3
TICKS = os.sysconf("SC_CLK_TCK")


def asked(way, prompt, tokens, stream):
    """A body of that way."""
    options = {"num_predict": tokens, "temperature": 0}
    if way == "/query":
        return {"prompt": prompt, "stream": stream, "options": options}
    chat = {"messages": [{"role": "user", "content": prompt}], "stream": stream}
    if way == "/api/chat":
        return {**chat, "model": Deployed.model, "options": options}
    return {**chat, "max_tokens": tokens, "temperature": 0}


class Deployed:
    """The deployment, and what its engine does."""

    model = ""

    def __init__(self, place, record):
        Deployed.model = record["model"]
        self.door = Door(address_in(record), place.output, record["id"], 0)
        self.log = place.output / "logs" / f"ollama_{record['jobs']['ollama']['id']}.out"
        self.output = str(place.output).encode()

    @contextlib.contextmanager
    def begin(self, way, prompt, tokens=TOKENS, stream=True):
        """A request under way; it is left with the context."""
        body = asked(way, prompt, tokens, stream)
        with contextlib.closing(send(self.door, way, body)) as sock:
            yield sock

    def answer(self, way, prompt, tokens):
        """Ask and stay; how many seconds it took."""
        began = perf_counter()
        answer = self.door.ask(way, asked(way, prompt, tokens, False), 3 * PATIENCE_S)
        assert answer.status == 200, answer
        return perf_counter() - began

    def cpu(self):
        """Seconds of CPU that the engine has used so far."""
        return sum(self._cpu_of(path) for path in Path("/proc").glob("[0-9]*"))

    def _cpu_of(self, path):
        try:
            if (path / "comm").read_text() != "ollama\n":
                return 0
            if self.output not in (path / "environ").read_bytes():
                return 0
            stat = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return (int(stat[11]) + int(stat[12])) / TICKS

    def logged(self, way):
        """How many requests that came by that way the engine has ended."""
        return len(re.findall(rf'POST +"{WAYS[way]}"', self.log.read_text()))

    def given(self):
        """How many requests the engine has from the door."""
        (replica,) = json.loads(self.door.ask("/health").body)["ollama"]
        return replica["outstanding"]

    def waiting(self, way):
        """How many requests wait at the door."""
        queue = "queries" if way == "/query" else "engines"
        text = self.door.ask("/metrics").body.decode()
        (found,) = re.findall(rf'orch_queue_length{{queue="{queue}"}} (\S+)', text)
        return float(found)


def address_in(record):
    return record["endpoints"]["client"].removeprefix("http://")


@pytest.fixture(scope="module")
def deployed(shared_place):
    recipe = shared_place.recipe(model=str(SMALL), num_parallel=1, context_length=2048)
    return Deployed(shared_place, shared_place.deploy(recipe, "--no-benchmark"))


@pytest.fixture(scope="module")
def story(deployed):
    """CPU seconds of a whole long answer."""
    before = deployed.cpu()
    deployed.answer("/api/chat", STORY, TOKENS)
    return deployed.cpu() - before


@pytest.fixture(scope="module")
def reading(deployed):
    """CPU seconds of reading a whole long prompt."""
    before = deployed.cpu()
    deployed.answer("/api/chat", prompt_of("w0"), 1)
    return deployed.cpu() - before


def prompt_of(name):
    """A long one, each new to the engine from its first word on."""
    return " ".join(f"{name}{number}" for number in range(WORDS))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_who_leaves_in_the_midst_of_an_answer_frees_the_slot(deployed, story, way, stream):
    before = deployed.cpu()
    with deployed.begin(way, STORY, stream=stream):
        until(lambda: deployed.cpu() - before > 0.1 * story)  # its prompt takes less
    left = deployed.cpu()
    seconds = deployed.answer("/api/chat", "Hi", 1)
    spent = deployed.cpu() - left
    print(f"{way}, stream {stream}: the next one is answered after {seconds:.2f} s")
    assert spent < 0.5 * story, f"{spent:.2f} s of CPU, of {story:.2f} s of a whole answer"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_who_leaves_while_his_prompt_is_read_gets_no_answer(deployed, reading, story, way, stream):
    """Ollama reads the prompt to its end all the same: its issue 11889."""
    before = deployed.cpu()
    with deployed.begin(way, prompt_of(f"{way[1]}{stream:d}"), stream=stream):
        until(lambda: deployed.cpu() - before > 0.1 * reading)
    left = deployed.cpu()
    seconds = deployed.answer("/api/chat", "Hi", 1)
    spent = deployed.cpu() - left
    print(f"{way}, stream {stream}: the next one is answered after {seconds:.2f} s")
    most = reading + 0.5 * story
    assert spent < most, f"{spent:.2f} s of CPU, of {reading:.2f} + {story:.2f} s"


@pytest.mark.parametrize("way", WAYS)
def test_who_leaves_the_queue_at_the_door_is_never_seen_by_the_engine(deployed, way):
    # Of what has answered a query lately /health asks no token, which would take a place, too.
    if way != "/query":
        deployed.answer("/query", "Hi", 1)
    ended = deployed.logged(way)
    with contextlib.ExitStack() as stack:
        with deployed.begin(way, STORY, LONG) as first:
            first.recv(1)
            others = [stack.enter_context(deployed.begin(way, "Hi", 1)) for _ in range(GIVEN - 1)]
            until(lambda: deployed.given() == GIVEN)  # else the next one may be before them
            with deployed.begin(way, STORY):
                until(lambda: deployed.waiting(way) == 1)
            until(lambda: deployed.waiting(way) == 0)
        for other in others:  # these have waited in the engine
            assert b" 200 " in other.recv(65536)[:13]
    deployed.answer(way, "Hi", 1)
    until(lambda: deployed.logged(way) >= ended + GIVEN + 1)
    assert deployed.logged(way) == ended + GIVEN + 1
