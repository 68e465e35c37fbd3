"""A client service in front of an engine that speaks OpenAI's API: /query, /health, /benchmark as
of Ollama."""

import contextlib
import json

import pytest
from compatible_layer import whole
from scripted_server import scripted

import clientService

MODELS = {"object": "list", "data": [{"id": "known", "aliases": ["its other name"],
                                      "owned_by": "llamacpp", "meta": {"n_ctx": 256}}]}  # fmt: skip
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
TIMINGS = {"prompt_ms": 1.5, "predicted_ms": 20.25}
#: As Ollama counts them; durations in nanoseconds.
COUNTS = {"prompt_eval_count": 7, "eval_count": 2,
          "prompt_eval_duration": 1_500_000, "eval_duration": 20_250_000}  # fmt: skip
TOO_LONG = {"code": 400, "message": "request (631 tokens) exceeds the available context size (256 "
            "tokens)", "type": "exceed_context_size_error",
            "n_prompt_tokens": 631, "n_ctx": 256}  # fmt: skip
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


def events(*values):
    """A stream; texts stand for themselves."""
    data = "".join(v if isinstance(v, str) else f"data: {json.dumps(v)}\n\n" for v in values)
    return whole(data.encode(), more="Content-Type: text/event-stream\r\n")


def piece(**delta):
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"model": "known", "choices": [choice]}


END = {"model": "known", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
LAST = {"model": "known", "choices": [], "usage": USAGE, "timings": TIMINGS}
DONE = "data: [DONE]\n\n"
CHAT = events(piece(role="assistant", content=None), piece(content="H"), piece(content="é"), END,
              LAST, DONE)  # fmt: skip


@pytest.fixture
def service(tmp_path, monkeypatch, door):
    """Starts a client service in front of what gives these answers; itself, and that server."""
    (tmp_path / "logs").mkdir()
    names = {"OUTPUT_DIR": str(tmp_path), "OLLAMA_JOB": "41", "MODEL": "known", "JOB_ID": "42",
             "ENGINE": "llama.cpp"}  # fmt: skip
    for name, value in names.items():
        monkeypatch.setenv(f"ORCH_{name}", value)
    with contextlib.ExitStack() as stack:

        def start(*answers, **how):
            server = stack.enter_context(scripted(*answers, **how))
            (tmp_path / "llamacpp_ip_41.txt").write_text(f"127.0.0.1:{server.port}\n")
            return clientService.create_app().test_client(), server

        yield start


#: Of the paths that are asked to know the context.
SPARED = {"spared": ("/v1/models", "/props", "/version")}


def lines_of(response):
    return [json.loads(line) for line in response.get_data().splitlines()]


# --- what is asked ---


def test_a_query_is_asked_as_a_chat_with_ollamas_options_under_openais_names(service):
    client, server = service(CHAT, **SPARED)
    body = {"prompt": "Hi", "system": "Be brief.", "format": "json", "think": False,
            "options": {"num_predict": 2, "temperature": 0, "seed": 1, "stop": ["x"]}}  # fmt: skip
    assert client.post("/query", json=body).status_code == 200
    assert server.heads[0].startswith(b"POST /v1/chat/completions ")
    assert json.loads(server.bodies[0]) == {
        "model": "known",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 2,
        "temperature": 0,
        "seed": 1,
        "stop": ["x"],
        "response_format": {"type": "json_object"},
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_ollamas_word_for_no_limit_is_none(service):
    client, server = service(CHAT, **SPARED)
    client.post("/query", json={"prompt": "Hi", "options": {"num_predict": -1}})
    assert "max_tokens" not in json.loads(server.bodies[0])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"options": {"num_ctx": 9, "num_thread": 1}}, "options has num_ctx, num_thread, which"),
        ({"keep_alive": "5m"}, "keep_alive does not go with llama.cpp"),
    ],
)
def test_what_the_engine_does_not_know_is_refused_by_name_and_not_dropped(service, body, words):
    client, server = service(CHAT, **SPARED)
    answer = client.post("/query", json={"prompt": "Hi", **body})
    assert answer.status_code == 400 and words in answer.get_json()["error"]["message"]
    assert server.bodies == []


# --- what is answered ---


def test_an_answer_has_the_keys_that_ollamas_has(service):
    client, server = service(CHAT, **SPARED)
    answer = client.post("/query", json={"prompt": "Hi"}).get_json()
    assert answer.pop("request_time") > 0 and answer.pop("created_at")
    ours = {"replica": f"127.0.0.1:{server.port}", "retried": False}
    said = {"model": "known", "response": "Hé", "done": True, "done_reason": "stop"}
    assert answer == {**said, **COUNTS, **ours}


def test_what_is_not_told_is_left_out(service):
    client, _ = service(events(piece(content="Hi"), END, DONE), **SPARED)
    assert not set(COUNTS) & set(client.post("/query", json={"prompt": "Hi"}).get_json())


def test_a_stream_has_ollamas_lines_however_it_is_cut(service):
    pieces = [piece(role="assistant", content=None), piece(reasoning_content="Hm"),
              piece(content="H"), ": comment\n", piece(content="é\n"), END, LAST]  # fmt: skip
    said = events(*pieces, DONE)
    client, _ = service([said[i : i + 7] for i in range(0, len(said), 7)], **SPARED)
    response = client.post("/query", json={"prompt": "Hi", "stream": True})
    lines = lines_of(response)
    assert all(line.pop("created_at") and line.pop("model") == "known" for line in lines)
    assert lines == [
        {"response": "", "thinking": "Hm", "done": False},
        {"response": "H", "done": False},
        {"response": "é\n", "done": False},
        {"response": "", "done": True, "done_reason": "stop", **COUNTS},
    ]
    metrics = client.get("/metrics").get_data(as_text=True)
    assert 'orch_generation_tokens_total{source="query"} 2.0' in metrics


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (events(piece(content="H"), {"error": {"message": "out of memory"}}), "out of memory"),
        (events(piece(content="H"), END), "without its final chunk"),
        (events(piece(content="H")), "without its final chunk"),
        (events("data: <html>\n\n"), "broke off"),
        (whole(b"<html>"), "final chunk"),
    ],
)
def test_a_stream_that_fails_ends_with_an_error(service, said, words):
    client, _ = service(said, **SPARED)
    last = lines_of(client.post("/query", json={"prompt": "Hi", "stream": True}))[-1]
    assert last["error"]["type"] == "ollama_error" and words in last["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_too_long_a_prompt_is_refused_with_the_engines_own_numbers(service, stream):
    client, _ = service(whole({"error": TOO_LONG}, 400), **SPARED)
    answer = client.post("/query", json={"prompt": "word " * 600, "stream": stream})
    error = answer.get_json()["error"]
    assert (answer.status_code, error["type"]) == (400, "prompt_too_long")
    assert "has 631 tokens (3000 bytes)" in error["message"] and "holds 256" in error["message"]


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (whole(LOADING, 503), 503, "ollama_not_ready"),
        (whole({"error": {"message": "slow down"}}, 429), 429, "ollama_busy"),
        (whole({"error": {"message": "CUDA error"}}, 500), 502, "ollama_error"),
        (whole({"choices": []}), 502, "ollama_error"),
        (events(piece(content="H"), {"error": {"message": "out of memory"}}), 502, "ollama_error"),
        (events(piece(content="H"), END), 502, "ollama_error"),
        ((b"",), 503, "ollama_unreachable"),
    ],
)
def test_failures_name_the_engine(service, answer, status, kind):
    client, _ = service(answer, **SPARED)
    said = client.post("/query", json={"prompt": "Hi"})
    assert (said.status_code, said.get_json()["error"]["type"]) == (status, kind)
    named = ("llama.cpp at 127.0.0.1:", "llama.cpp died three times with this request")
    assert said.get_json()["error"]["message"].startswith(named)


# --- /health ---


def test_it_is_well_when_its_model_answers_a_token(service):
    client, server = service(whole(MODELS), CHAT, spared=("/props", "/version"))
    answer = client.get("/health")
    (replica,) = answer.get_json()["ollama"]
    assert (answer.status_code, replica["model"], replica["loaded"]) == (200, "known", True)
    assert json.loads(server.bodies[-1])["max_tokens"] == 1


@pytest.mark.parametrize(
    ("listing", "kind", "words"),
    [
        (whole(LOADING, 503), "ollama_not_ready", "Loading model"),
        (whole({"data": [{"id": "another"}]}), "ollama_error", "does not have the model known"),
    ],
)
def test_while_it_loads_or_has_another_model_it_is_not_well(service, listing, kind, words):
    client, _ = service(listing, spared=("/props", "/version"))
    answer = client.get("/health")
    error = answer.get_json()["error"]
    assert (answer.status_code, error["type"]) == (503, kind) and words in error["message"]
    assert error["message"].startswith("llama.cpp at ")


def test_too_long_a_prompt_says_nothing_against_the_engine(service):
    client, _ = service(
        whole({"error": TOO_LONG}, 400), whole(MODELS), CHAT, spared=("/props", "/version")
    )
    assert client.post("/query", json={"prompt": "word " * 600}).status_code == 400
    assert client.get("/health").get_json()["status"] == "healthy"


def test_before_its_address_is_known_it_is_waited_for_by_name(service, tmp_path):
    client, _ = service(whole(MODELS))
    (tmp_path / "llamacpp_ip_41.txt").unlink()
    error = client.get("/health").get_json()["error"]
    assert error["type"] == "ollama_not_ready"
    assert error["message"].startswith("Waiting for the llama.cpp job 41: ")


# --- /benchmark ---


def test_a_benchmark_by_an_api_that_it_does_not_speak_is_refused(service):
    client, _ = service(whole(MODELS))
    answer = client.post("/benchmark", json={"n_clients": 1, "api": "ollama"})
    assert answer.status_code == 400
    assert "the engine of this deployment is llama.cpp" in answer.get_json()["error"]["message"]


def test_a_benchmark_that_would_keep_its_model_in_memory_is_refused(service):
    client, _ = service(whole(MODELS))
    answer = client.post("/benchmark", json={"n_clients": 1, "keep_alive": "5m"})
    assert answer.status_code == 400 and "keep_alive" in answer.get_json()["error"]["message"]
