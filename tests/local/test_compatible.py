"""OpenAI's own client, on a real Ollama behind the layer: what it reads is what Ollama said."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys

import openai
import pytest
from events import PATIENCE_S, until
from place import PROJECT, SMALL, http

EMBEDDING = PROJECT / ".tools" / "models" / "all-MiniLM-L6-v2.F16.gguf"
CONTEXT = 256
HELLO = [{"role": "user", "content": "What is the capital of France?"}]
SAME = {"temperature": 0, "seed": 1}
TOOLS = [{"type": "function", "name": "now", "parameters": {"type": "object"}}]


@contextlib.contextmanager
def running(command, environment, log=None):
    """A process; what it says first."""
    process = subprocess.Popen(
        command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def ollama(tmp_path_factory):
    """An Ollama with two models, `small` and `vectors`; its host:port."""
    folder, at = tmp_path_factory.mktemp("ollama"), f"127.0.0.1:{free_port()}"
    program = shutil.which("ollama") or str(PROJECT / ".tools" / "bin" / "ollama")
    ours = {"OLLAMA_HOST": at, "OLLAMA_MODELS": str(folder / "models"), "HOME": str(folder)}
    ours |= {"OLLAMA_CONTEXT_LENGTH": str(CONTEXT), "no_proxy": "127.0.0.1"}
    environment = {**os.environ, **ours}
    with (folder / "log").open("w") as log, running([program, "serve"], environment, log):
        until(lambda: answers(at), what="Ollama's start")
        for name, path in (("small", SMALL), ("vectors", EMBEDDING)):
            (folder / name).write_text(f"FROM {path}\nPARAMETER num_thread 1\n")
            command = [program, "create", name, "-f", str(folder / name)]
            subprocess.run(command, env=environment, check=True, capture_output=True)
        yield at


def answers(at):
    try:
        return http("GET", f"http://{at}/api/version")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def client(ollama):
    """OpenAI's client of the layer."""
    command = [sys.executable, "-m", "client.compatible", "--listen", "127.0.0.1:0"]
    with running([*command, "--engine", ollama, "--model", "small"], os.environ) as layer:
        at = layer.stdout.readline().split()[-1]
        with openai.OpenAI(
            base_url=f"http://{at}/v1",
            api_key="none",
            max_retries=0,
            timeout=PATIENCE_S,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as one:
            yield one


def native(ollama, path, body):
    status, answer = http("POST", f"http://{ollama}{path}", {"stream": False, **body})
    assert status == 200, answer
    return answer


def test_models(client):
    assert {model.id for model in client.models.list()} == {"small:latest", "vectors:latest"}
    assert client.models.retrieve("small").id == "small:latest"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-4o")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_a_chat_says_what_ollama_says_streamed_or_not(client, ollama):
    options = {**SAME, "num_predict": 7}
    said = native(ollama, "/api/chat", {"model": "small", "messages": HELLO, "options": options})
    asked = {"model": "small", "messages": HELLO, "max_completion_tokens": 7, **SAME}
    answer = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = said["message"]["content"]
    assert "Paris" in text
    assert answer.choices[0].message.content == text
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert answer.usage == chunks[-1].usage
    assert answer.usage.completion_tokens == said["eval_count"] == 7
    assert answer.usage.prompt_tokens == said["prompt_eval_count"]
    assert {answer.choices[0].finish_reason, chunks[-2].choices[0].finish_reason} == {"length"}


def test_the_deployments_model_is_meant_by_default(client):
    body = {"messages": HELLO, "max_tokens": 1}
    status, answer = http("POST", f"{client.base_url}chat/completions", body)
    assert (status, answer["model"]) == (200, "small")


def test_an_answer_that_must_be_json(client):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    answer = client.chat.completions.create(
        model="small",
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        max_tokens=60,
        **SAME,
    )
    assert json.loads(answer.choices[0].message.content).keys() == {"city"}


def test_log_probabilities(client):
    answer = client.chat.completions.create(
        model="small", messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2, **SAME
    )
    [choice] = answer.choices
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(client):
    messages = [{"role": "user", "content": "hello world " * 400}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="small", messages=messages, stream=stream)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
        assert f"{CONTEXT} tokens" in refused.value.message
        assert "about 1200 tokens" in refused.value.message


def test_an_answer_ends_where_the_context_does(client):
    messages = [{"role": "user", "content": "Count from one to a million. " * 30}]
    answer = client.chat.completions.create(model="small", messages=messages, **SAME)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens - CONTEXT in (0, 1), "Ollama counts one that it did not keep"


def test_what_the_model_cannot_is_refused(client):
    tools = [{"type": "function", "function": {"name": "now"}}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    seen = [{"role": "user", "content": [image]}]
    for more in ({"tools": tools}, {"messages": seen}, {"reasoning_effort": "low"}, {"n": 2}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**{"model": "small", "messages": HELLO, **more})
        assert (refused.value.code, refused.value.param) == (
            "unsupported_parameter",
            next(iter(more)),
        )


def test_a_model_that_there_is_not(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert refused.value.code == "model_not_found"


def test_a_completion_goes_on_as_the_text_stands(client, ollama):
    options = {**SAME, "num_predict": 6}
    asked = {"model": "small", "prompt": "The capital of France is", "raw": True}
    said = native(ollama, "/api/generate", {**asked, "options": options})
    answer = client.completions.create(
        model="small", prompt="The capital of France is", max_tokens=6, **SAME
    )
    stream = client.completions.create(
        model="small", prompt="The capital of France is", max_tokens=6, stream=True, **SAME
    )
    assert answer.choices[0].text == said["response"]
    assert "".join(chunk.choices[0].text for chunk in stream) == said["response"]


def test_embeddings_are_ollamas(client, ollama):
    texts = ["a cluster", "a cat"]
    vectors = native(ollama, "/api/embed", {"model": "vectors", "input": texts})["embeddings"]
    for form in ("base64", "float"):
        found = client.embeddings.create(model="vectors", input=texts, encoding_format=form)
        if form == "float":
            for one, vector in zip(found.data, vectors, strict=True):
                assert one.embedding == pytest.approx(vector, abs=1e-6)
    default = client.embeddings.create(model="vectors", input="a cat")
    assert default.data[0].embedding == pytest.approx(vectors[1], abs=1e-5)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="vectors", input="hello world " * 400)
    assert refused.value.code == "context_length_exceeded"


# --- responses and messages ---


def test_a_response_says_what_ollama_says_streamed_or_not(client, ollama):
    options = {"temperature": 0, "num_predict": 7}
    said = native(ollama, "/api/chat", {"model": "small", "messages": HELLO, "options": options})
    asked = {"model": "small", "input": HELLO[0]["content"], "max_output_tokens": 7}
    answer = client.responses.create(**asked, temperature=0)
    *events, last = client.responses.create(**asked, temperature=0, stream=True)
    deltas, final = [e.delta for e in events if hasattr(e, "delta")], last.response
    text = said["message"]["content"]
    assert "Paris" in text
    assert {answer.output_text, "".join(deltas), final.output_text} == {text}
    assert answer.usage == final.usage
    assert answer.usage.input_tokens == said["prompt_eval_count"]
    assert answer.usage.output_tokens == said["eval_count"] == 7
    for one in (answer, final):
        assert (one.status, one.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_responses_are_refused_as_chats_are(client):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="small", input="hello world " * 400, stream=stream)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
        assert f"{CONTEXT} tokens" in refused.value.message
        assert "about 1200 tokens" in refused.value.message
    for key, value in {"previous_response_id": "resp_1", "store": True, "tools": TOOLS}.items():
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="small", input="Hi", **{key: value})
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", key)
    with pytest.raises(openai.NotFoundError) as missed:
        client.responses.create(model="gpt-4o", input="Hi")
    assert missed.value.code == "model_not_found"


def message(client, **more):
    body = {"model": "small", "messages": HELLO, "max_tokens": 7, "temperature": 0, **more}
    return http("POST", f"{client.base_url}messages", body)


def test_a_message_says_what_ollama_says(client, ollama):
    options = {"temperature": 0, "num_predict": 7}
    said = native(ollama, "/api/chat", {"model": "small", "messages": HELLO, "options": options})
    status, answer = message(client)
    assert (status, answer["stop_reason"]) == (200, "max_tokens")
    assert answer["content"] == [{"type": "text", "text": said["message"]["content"]}]
    usage = {"input_tokens": said["prompt_eval_count"], "output_tokens": 7}
    assert answer["usage"] == usage
    stopped = message(client, max_tokens=60, stop_sequences=["Paris"])[1]
    assert stopped["stop_reason"] == "end_turn" and "Paris" not in stopped["content"][0]["text"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_that_is_too_long_is_refused_with_both_numbers(client, stream):
    long = [{"role": "user", "content": "hello world " * 400}]
    status, answer = message(client, messages=long, stream=stream)
    assert (status, answer["type"]) == (400, "error")
    assert answer["error"]["type"] == "invalid_request_error"
    assert f"{CONTEXT} tokens" in answer["error"]["message"]
    assert "about 1200 tokens" in answer["error"]["message"]


def test_a_message_whose_answer_fills_the_context_says_so(client):
    counting = [{"role": "user", "content": "Count from one to a million. " * 30}]
    answer = message(client, messages=counting, max_tokens=1000)[1]
    assert answer["stop_reason"] == "model_context_window_exceeded"
