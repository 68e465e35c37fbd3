"""A deployment whose engine is llama.cpp's own server: it is asked as any other one."""

import json
import os
import signal
from pathlib import Path

import openai
import pytest
from door_requests import send
from doors import Door
from events import until
from place import SMALL, http

CONTEXT = 256
HELLO = [{"role": "user", "content": "What is the capital of France?"}]
LONG = "word " * 600
STORY = "Write a very long story about a river, with many chapters."
FEW = {"num_predict": 6, "temperature": 0}


class Deployed:
    """One with two slots."""

    def __init__(self, place, record):
        self.url, self.model = record["endpoints"]["client"], record["model"]
        self.engine, self.token = record["endpoints"]["llamacpp"][0], place.token_file(record)
        self.door = Door(self.url.removeprefix("http://"), place.output, record["id"], 0)
        self.output = place.output

    def ask(self, path, body=None):
        return http("GET" if body is None else "POST", self.url + path, body)

    def works(self):
        """Whether the engine writes an answer."""
        slots = http("GET", f"{self.engine}/slots", token=self.token.read_text().strip())[1]
        return any(slot["is_processing"] for slot in slots)

    def cancelled(self):
        """How many answers the engine has not written to their end, by its log."""
        logs = self.output.glob("logs/llamacpp_*")
        return sum(log.read_text(errors="replace").count("cancel task") for log in logs)

    def written(self):
        """The tokens that were written for the owner."""
        lines = self.door.ask("/metrics").body.decode().splitlines()
        name = 'orch_user_generation_tokens_total{user="owner"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def deployed(shared_place):
    recipe = shared_place.recipe(
        model=str(SMALL), engine="llama.cpp", num_parallel=2, context_length=CONTEXT
    )
    return Deployed(shared_place, shared_place.deploy(recipe))


def test_it_is_healthy_as_its_model_answers(deployed):
    status, health = deployed.ask("/health")
    (replica,) = health["ollama"]
    assert (status, health["status"], replica["model"]) == (200, "healthy", deployed.model)
    assert replica["available"] and replica["loaded"] and replica["ok"]


def test_a_query_is_answered_with_ollamas_keys_streamed_or_not(deployed):
    body = {"prompt": HELLO[0]["content"], "system": "Be brief.", "options": FEW}
    status, answer = deployed.ask("/query", body)
    assert status == 200 and answer["done"] and answer["done_reason"] == "length"
    assert answer["eval_count"] == 6 and answer["prompt_eval_count"] > 20
    assert answer["eval_duration"] > 0 and answer["request_time"] > 0
    streamed = deployed.door.ask("/query", {**body, "stream": True}).body.splitlines()
    *lines, last = map(json.loads, streamed)
    assert len(lines) > 2 and "".join(line["response"] for line in lines) == answer["response"]
    assert (last["done"], last["eval_count"]) == (True, 6)


def test_too_long_a_prompt_is_refused_with_the_engines_numbers_by_each_api(deployed):
    status, answer = deployed.ask("/query", {"prompt": LONG})
    assert (status, answer["error"]["type"]) == (400, "prompt_too_long")
    chat = {"messages": [{"role": "user", "content": LONG}]}
    refused, said = deployed.ask("/v1/chat/completions", chat)
    assert (refused, said["error"]["code"]) == (400, "context_length_exceeded")
    for words in (answer["error"]["message"], said["error"]["message"]):
        assert "631 tokens" in words and str(CONTEXT) in words
    assert deployed.ask("/v1/messages", {**chat, "max_tokens": 1})[1]["type"] == "error"
    assert deployed.ask("/health")[0] == 200


def test_openais_own_client_is_answered_and_counted_by_name(deployed):
    before = deployed.written()
    client = openai.OpenAI(
        base_url=f"{deployed.url}/v1", api_key=deployed.door.token_file.read_text().strip(),
        max_retries=0, http_client=openai.DefaultHttpxClient(trust_env=False),
    )  # fmt: skip
    assert [model.id for model in client.models.list()] == [deployed.model]
    assert client.models.retrieve(deployed.model).id == deployed.model
    asked = {"model": deployed.model, "messages": HELLO, "max_tokens": 6, "temperature": 0}
    answer = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert all(chunk.choices for chunk in chunks), "nobody has asked for the counts"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == answer.choices[0].message.content != ""
    assert {answer.choices[0].finish_reason, chunks[-1].choices[0].finish_reason} == {"length"}
    assert answer.usage.completion_tokens == 6
    completion = client.completions.create(
        model=deployed.model, prompt="Once upon a time", max_tokens=2, temperature=0
    )
    assert completion.choices[0].text
    reply = client.responses.create(
        model=deployed.model, input="Hi", max_output_tokens=3, temperature=0
    )
    two = client.chat.completions.create(**asked, n=2)
    assert len(two.choices) == 2
    told = [answer.usage, completion.usage, two.usage]  # of `n` it counts one
    expected = 6 + sum(one.completion_tokens for one in told) + reply.usage.output_tokens
    until(lambda: deployed.written() - before >= expected, what="the count of all tokens")
    assert deployed.written() - before == expected
    with pytest.raises(openai.NotFoundError, match="'gpt-4o' does not exist here"):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    with pytest.raises(openai.InternalServerError, match="does not answer /v1/embeddings") as none:
        client.embeddings.create(model=deployed.model, input="Hi")
    assert none.value.status_code == 501


def test_ollamas_own_routes_say_what_the_engine_is(deployed):
    for path, body in (("/", None), ("/api/tags", None), ("/api/chat", {}), ("/api/delete", {})):
        status, answer = deployed.ask(path, body)
        assert status == 404 and "is llama.cpp, which speaks /v1" in answer["error"]


@pytest.mark.parametrize("way", ["engines", "door"])
def test_a_benchmark_asks_it_by_openais_api(deployed, way):
    load = {"n_clients": 2, "n_requests_per_client": 2, "num_predict": 6, "through": way}
    status, found = deployed.ask("/benchmark", load)
    assert status == 200, found
    assert (found["successful"], found["failed"]) == (4, 0)
    assert {one["tokens"] for one in found["results"]} == {6}
    assert [one["url"] for one in found["replicas"]] == [
        deployed.url if way == "door" else deployed.engine
    ]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("way", ["/query", "/v1/chat/completions", "/v1/completions"])
def test_who_leaves_frees_the_slot(deployed, way, stream):
    before = deployed.cancelled()
    # No answer is to end by itself: by chance one might at once, this story does not so soon.
    asked = {"prompt": STORY, "options": {"num_predict": 200, "temperature": 0}}
    if way != "/query":
        asked = {"prompt": STORY, "messages": HELLO, "max_tokens": 200, "ignore_eos": True}
    sock = send(deployed.door, way, {**asked, "stream": stream})
    until(deployed.works)
    sock.close()
    until(lambda: deployed.cancelled() > before)
    until(lambda: not deployed.works())


def test_an_engine_that_is_gone_is_said_so(deployed):
    """The last test on this deployment."""
    for path in Path("/proc").glob("[0-9]*"):
        words = _words(path)
        if b"--alias" in words and deployed.model.encode() in words:
            os.kill(int(path.name), signal.SIGKILL)
    until(lambda: deployed.ask("/health")[0] == 503)
    status, answer = deployed.ask("/query", {"prompt": "Hi"})
    assert status == 503 and "llama.cpp" in answer["error"]["message"]
    refused, said = deployed.ask("/v1/chat/completions", {"messages": HELLO})
    assert refused in (502, 503) and said["error"]["code"]


def _words(path):
    try:
        return (path / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
