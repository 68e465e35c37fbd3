"""The package ollama, and Ollama's own command line."""

import os
import subprocess

import ollama
import pytest
from conftest import OLLAMA
from events import PATIENCE_S
from wanted import ASKED_FOR_JSON, CITY, QUESTION, get_weather, is_of_the_schema

ASK = [{"role": "user", "content": QUESTION}]


def client_of(deployed, token):
    return ollama.Client(host=deployed.url, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def client(deployed):
    return client_of(deployed, deployed.token)


def chat(client, deployed, tokens=24, **more):
    body = {"model": deployed.model, "messages": ASK, "options": {"num_predict": tokens}, **more}
    return client.chat(**body)


def test_list(client, deployed):
    assert [model.model for model in client.list().models] == [deployed.model]
    assert "tools" in client.show(deployed.model).capabilities


def test_the_token_may_come_from_the_environment(deployed, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", deployed.token)
    assert ollama.Client(host=deployed.url).list().models


def test_chat_stream_and_usage(client, deployed):
    whole = chat(client, deployed)
    assert "Paris" in whole.message.content and 0 < whole.eval_count <= 24
    lines = list(chat(client, deployed, stream=True))
    assert "".join(line.message.content for line in lines) == whole.message.content
    assert lines[-1].eval_count == whole.eval_count


def test_tools(client, deployed):
    answer = chat(client, deployed, tools=[get_weather], tokens=60)
    (call,) = answer.message.tool_calls
    assert call.function.name == "get_weather"
    said = [*ASK, answer.message, {"role": "tool", "tool_name": "get_weather", "content": "Sunny."}]
    assert chat(client, deployed, messages=said).message.content


def test_json_schema(client, deployed):
    ask = [{"role": "user", "content": ASKED_FOR_JSON}]
    answer = chat(client, deployed, messages=ask, format=CITY, tokens=64)
    assert is_of_the_schema(answer.message.content)


def test_embeddings(client, deployed):
    assert len(client.embed(deployed.model, ["a cat", "a dog"]).embeddings) == 2


def test_refusals(client, deployed):
    for asked, status in (
        (lambda: client_of(deployed, "wrong").list(), 401),
        (lambda: chat(client, deployed, model="no-such-model"), 404),
        (lambda: client.delete(deployed.model), 403),
    ):
        with pytest.raises(ollama.ResponseError) as refused:
            asked()
        assert refused.value.status_code == status


def command(*arguments, host):
    """Ollama's own command line sends no key, but keeps the path of a host: the token is there."""
    return subprocess.run(
        [OLLAMA, *arguments], env={**os.environ, "OLLAMA_HOST": host}, capture_output=True,
        text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_command_line_has_the_token_in_the_path(deployed):
    host = f"{deployed.url}/{deployed.token}"
    listed = command("list", host=host)
    assert deployed.model in listed.stdout, listed.stderr
    assert "Paris" in command("run", deployed.model, QUESTION, host=host).stdout
    refused = command("rm", deployed.model, host=host)
    assert refused.returncode != 0 and "asked, not managed" in refused.stderr


@pytest.mark.parametrize("path", ["", "/wrong"])
def test_the_command_line_is_refused_without_the_token(deployed, path):
    refused = command("list", host=deployed.url + path)
    assert refused.returncode != 0 and refused.stdout == ""
