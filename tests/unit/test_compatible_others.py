"""Models, completions and embeddings."""

import base64
import json
import struct

import pytest
from compatible_layer import COUNTS, END, layer, line, streamed, whole

TAGS = {
    "models": [
        {"name": "known:latest", "modified_at": "2026-01-02T03:04:05.123456789+01:00"},
        {"name": "me/other:7b", "modified_at": "2026-01-02T03:04:05.1Z"},
        {"name": "odd"},
    ]
}
KNOWN = {"id": "known:latest", "object": "model", "created": 1767319445, "owned_by": "library"}
OTHER = {"id": "me/other:7b", "object": "model", "created": 1767323045, "owned_by": "me"}


def get(one, path):
    status, _, text = one.ask("GET", path)
    return status, json.loads(text)


def test_models_are_listed_as_ollama_lists_them():
    with layer(whole(TAGS)) as one:
        status, found = get(one, "/v1/models")
        assert one.engine.heads[0].startswith(b"GET /api/tags ")
    assert (status, found["object"], found["data"][:2]) == (200, "list", [KNOWN, OTHER])


@pytest.mark.parametrize(
    ("name", "model"),
    [("known:latest", KNOWN), ("known", KNOWN), ("me/other:7b", OTHER), ("me%2Fother%3A7b", OTHER)],
)
def test_one_model(name, model):
    with layer(whole(TAGS)) as one:
        assert get(one, f"/v1/models/{name}") == (200, model)


def test_a_model_that_there_is_not():
    with layer(whole(TAGS)) as one:
        status, found = get(one, "/v1/models/gpt-4o")
    error = found["error"]
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert error["type"] == "invalid_request_error" and "gpt-4o" in error["message"]


# --- completions ---

TEXT = "/v1/completions"
ANSWER = {"response": " a time", **END}


def text_line(text, **more):
    return line({"model": "m", "created_at": "2026", "response": text, "done": False, **more})


def test_a_completion_in_one_piece():
    with layer(whole(ANSWER)) as one:
        _, found = one.post(TEXT, prompt="Once upon", temperature=0)
        native = one.native()
        assert one.engine.heads[0].startswith(b"POST /api/generate ")
    assert found["id"].startswith("cmpl-") and found["object"] == "text_completion"
    assert found["choices"] == [
        {"text": " a time", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert found["usage"]["total_tokens"] == sum(COUNTS.values())
    assert native == {
        "model": "known",
        "prompt": "Once upon",
        "stream": False,
        "truncate": False,
        "shift": False,
        "raw": True,
        "think": False,
        "options": {"num_predict": 16, "temperature": 0},
    }


def test_a_completion_in_a_stream():
    end = line({"model": "m", "response": "", **END, "done_reason": "length"})
    with layer(streamed(text_line(" a"), text_line(' "b"'), text_line(" c"), end)) as one:
        *events, last, counts, done = one.stream(
            TEXT, prompt=["Once"], stream_options={"include_usage": True}
        )
    assert [event["choices"][0]["text"] for event in events] == [" a", ' "b"', " c"]
    assert all(event["choices"][0].keys() == last["choices"][0].keys() for event in events)
    assert last["choices"][0]["finish_reason"] == "length"
    assert counts["usage"]["completion_tokens"] == 2 and done == "data: [DONE]"


def test_a_gap_is_filled_by_models_that_can():
    able, unable = ({"capabilities": ["completion", *more]} for more in (["insert"], []))
    with layer(whole(able), whole(ANSWER)) as one:
        assert one.post(TEXT, prompt="a", suffix="c")[0] == 200
        assert one.native()["suffix"] == "c" and "raw" not in one.native()
    with layer(whole(unable)) as one:
        refused = one.refused(TEXT, prompt="a", suffix="c")
        assert refused == (400, "unsupported_parameter", "suffix")


def probable(*tokens):
    return [
        {"token": t, "logprob": -1, "top_logprobs": [{"token": t, "logprob": -1}]} for t in tokens
    ]


def test_log_probabilities_of_completions_are_lists_side_by_side():
    lines = (text_line(" a", logprobs=probable(" a")), text_line("bc", logprobs=probable("b", "c")))
    end = line({"model": "m", "response": "", **END})
    with layer(whole({**ANSWER, "logprobs": probable(" a", "bc")}), streamed(*lines, end)) as one:
        found = one.post(TEXT, prompt="x", logprobs=1)[1]["choices"][0]["logprobs"]
        assert (one.native()["logprobs"], one.native()["top_logprobs"]) == (True, 1)
        pieces = [e["choices"][0]["logprobs"] for e in one.stream(TEXT, prompt="x", logprobs=1)[:2]]
    assert found == {
        "tokens": [" a", "bc"],
        "token_logprobs": [-1, -1],
        "top_logprobs": [{" a": -1}, {"bc": -1}],
        "text_offset": [0, 2],
    }
    assert [piece["text_offset"] for piece in pieces] == [[0], [2, 3]]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"prompt": ["a", "b"]}, "unsupported_parameter", "prompt"),
        ({"prompt": [1, 2]}, "unsupported_parameter", "prompt"),
        ({"prompt": [[1]]}, "unsupported_parameter", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": []}, "invalid_type", "prompt"),
        ({"prompt": 5}, "invalid_type", "prompt"),
        ({}, "missing_required_parameter", "prompt"),
        ({"prompt": "a", "echo": True}, "unsupported_parameter", "echo"),
        ({"prompt": "a", "best_of": 2}, "unsupported_parameter", "best_of"),
        ({"prompt": "a", "n": 2}, "unsupported_parameter", "n"),
        ({"prompt": "a", "logprobs": True}, "invalid_type", "logprobs"),
        ({"prompt": "a", "messages": []}, "unknown_parameter", "messages"),
    ],
)
def test_what_no_completion_can_have(body, code, param):
    with layer(whole(ANSWER)) as one:
        assert one.refused(TEXT, **body) == (400, code, param)
        assert one.engine.heads == []


# --- embeddings ---

VECTORS = "/v1/embeddings"
EMBEDDED = {"embeddings": [[0.5, -0.25], [1, 2]], "prompt_eval_count": 6}


def test_embeddings():
    with layer(whole(EMBEDDED)) as one:
        _, found = one.post(VECTORS, model="e", input=["a", "b"], dimensions=2, user="me")
        assert one.engine.heads[0].startswith(b"POST /api/embed ")
        assert one.native() == {
            "model": "e",
            "input": ["a", "b"],
            "truncate": False,
            "dimensions": 2,
        }
    assert (found["object"], found["model"]) == ("list", "e")
    assert found["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert found["data"] == [
        {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
        {"object": "embedding", "index": 1, "embedding": [1, 2]},
    ]


def test_embeddings_of_a_single_text_in_base64():
    with layer(whole({**EMBEDDED, "embeddings": [[0.5, -0.25]]})) as one:
        _, found = one.post(VECTORS, input="a", encoding_format="base64")
        assert one.native()["input"] == ["a"]
    [vector] = found["data"]
    assert struct.unpack("<2f", base64.b64decode(vector["embedding"])) == (0.5, -0.25)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": ""}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [1, 2]}, "unsupported_parameter", "input"),
        ({"input": "a", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"input": "a", "dimensions": 0}, "invalid_value", "dimensions"),
    ],
)
def test_what_no_embedding_can_have(body, code, param):
    with layer(whole(EMBEDDED)) as one:
        status, found, place = one.refused(VECTORS, **body)
        assert (status, found) == (400, code) and place.startswith(param)


def test_fewer_vectors_than_texts_are_a_failure():
    with layer(whole(EMBEDDED)) as one:
        assert one.refused(VECTORS, input="a") == (502, "engine_error", None)
