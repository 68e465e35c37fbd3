"""The APIs of OpenAI and Anthropic in front of an engine that speaks them itself."""

import contextlib
import json

import pytest
from compatible_layer import CHAT, HELLO, STREAM_HEAD, layer, whole
from events import until

from client.compatible.passing.routes import PassingRoutes

MODELS = whole({"data": [{"id": "known", "aliases": ["another name"]}]})
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
ANSWER = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"},
                 "finish_reason": "stop"}],
    "usage": USAGE,
    "timings": {},
}  # fmt: skip
TOO_LONG = {"message": "request (631 tokens) exceeds the available context size (256 tokens)",
            "type": "exceed_context_size_error", "n_prompt_tokens": 631, "n_ctx": 256}  # fmt: skip
OWN_BODIES = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": HELLO},
}


def routes(engine, model, report):
    return PassingRoutes(engine, "llama.cpp", model, report)


class Reports(list):
    """The counts that were reported."""

    def __call__(self, _request, usage):
        self.append((usage.get("prompt_tokens"), usage.get("completion_tokens")))


def passing(*answers, **how):
    return layer(*answers, of=routes, **how)


def events(*values, named=False):
    lines = (v if isinstance(v, str) else json.dumps(v) for v in values)
    chunks = [f"data: {line}\n\n".encode() for line in lines]
    if named:
        chunks = [f"event: {v['type']}\n".encode() + c for v, c in zip(values, chunks, strict=True)]
    head = STREAM_HEAD.replace(b"OK\r\n", b"OK\r\nContent-Type: text/event-stream\r\n")
    return [head, *(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks), b"0\r\n\r\n"]


def chunk(**choice):
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, **choice}], "usage": None}


LAST = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE, "timings": {}}
CHUNKS = events(
    chunk(delta={"role": "assistant", "content": None}, finish_reason=None),
    chunk(delta={"content": "H"}, finish_reason=None),
    chunk(delta={"content": "i"}, finish_reason=None),
    chunk(delta={}, finish_reason="stop"),
    *(LAST, "[DONE]"),
)


# --- what goes through ---


@pytest.mark.parametrize("path", OWN_BODIES)
def test_what_is_asked_goes_on_with_the_model_that_is_meant(path):
    chunked = path in ("/v1/chat/completions", "/v1/completions")
    with passing(CHUNKS if chunked else whole(ANSWER)) as one:
        status, answer = one.post(path, **OWN_BODIES[path], n=2, anything={"of": "the engine's"})
        asked = one.native()
        assert one.engine.heads[0].startswith(f"POST {path} HTTP/1.1".encode())
    assert (status, answer) == (200, ANSWER)
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if chunked else {}
    given = {**OWN_BODIES[path], "n": 2, "anything": {"of": "the engine's"}}
    assert asked == {**given, **streamed, "model": "known"}


def test_a_model_that_it_has_under_another_name_is_asked_for_by_that():
    with passing(MODELS, CHUNKS) as one:
        assert one.chat(model="another name")[0] == 200
        assert one.native()["model"] == "another name"


def test_a_model_that_it_does_not_have_is_not_answered_by_the_one_it_has():
    with passing(MODELS) as one:
        assert one.refused(model="gpt-4o") == (404, "model_not_found", "model")
        assert one.refused(model=["known"]) == (400, "invalid_type", "model")


def test_models_are_those_of_the_engine():
    with passing(MODELS) as one:
        assert json.loads(one.ask("GET", "/v1/models")[2])["data"][0]["id"] == "known"
        status, _, found = one.ask("GET", "/v1/models/another%20name")
        assert (status, json.loads(found)["id"]) == (200, "known")
        assert one.ask("GET", "/v1/models/gpt-4o")[0] == 404


def test_other_paths_and_methods_are_none():
    with passing(MODELS) as one:
        assert one.ask("POST", "/v1/images", {})[0] == 404
        assert one.ask("GET", CHAT)[0] == 405 and one.ask("POST", "/v1/models/x", {})[0] == 405


def test_a_whole_answer_has_all_that_its_pieces_have():
    """Several choices, thoughts, the probabilities of tokens, calls of tools."""
    begin = {"id": "a", "type": "function", "function": {"name": "now", "arguments": ""}}
    more = {"function": {"arguments": "{}"}}
    other = {"id": "b", "type": "function", "function": {"name": "x", "arguments": "{"}}
    said = events(
        chunk(delta={"role": "assistant", "reasoning_content": "H"}),
        {"choices": [{"index": 1, "delta": {"role": "assistant", "content": "B"}}]},
        chunk(delta={"reasoning_content": "m"}, logprobs={"content": [{"token": "H"}]}),
        chunk(
            delta={"tool_calls": [{"index": 0, **begin}]}, logprobs={"content": [{"token": "m"}]}
        ),
        chunk(delta={"tool_calls": [{"index": 0, **more}, {"index": 1, **other}]}),
        chunk(delta={}, finish_reason="tool_calls"),
        "[DONE]",
    )
    with passing(said) as one:
        first, second = one.chat(n=2)[1]["choices"]
    assert first == {
        "index": 0,
        "finish_reason": "tool_calls",
        "logprobs": {"content": [{"token": "H"}, {"token": "m"}]},
        "message": {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm",
            "tool_calls": [{**begin, "function": {"name": "now", "arguments": "{}"}}, other],
        },
    }
    assert second == {"index": 1, "message": {"role": "assistant", "content": "B"}}


def test_a_completion_is_whole_too():
    pieces = [{"object": "text_completion", "choices": [{"index": 0, "text": text}]}
              for text in ("a", "", "b")]  # fmt: skip
    with passing(events(*pieces, "[DONE]")) as one:
        answer = one.post("/v1/completions", prompt="Hi")[1]
    assert answer == {"object": "text_completion", "choices": [{"index": 0, "text": "ab"}]}


# --- counts by name ---


@pytest.mark.parametrize("wanted", [None, False, True])
def test_the_counts_of_a_stream_are_had_and_passed_on_to_who_asked_for_them(wanted):
    text = {"choices": [{"index": 0, "delta": {"content": 'say "usage"'}}], "usage": None}
    counts = {"choices": [], "usage": USAGE}
    more = {} if wanted is None else {"stream_options": {"include_usage": wanted}}
    reports = Reports()
    with passing(events(text, counts, "[DONE]"), report=reports) as one:
        assert one.stream(**more) == [text, *([counts] if wanted else []), "data: [DONE]"]
        assert one.native()["stream_options"] == {"include_usage": True}
    assert reports == [(5, 2)]


ANTHROPIC = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 0,
                                                    "cache_read_input_tokens": 30}}},
    {"type": "message_delta", "usage": {"output_tokens": 4}},
    {"type": "message_stop"},
]  # fmt: skip
RESPONSE = [
    {"type": "response.created", "response": {}},
    {"type": "response.completed", "response": {"usage": {"input_tokens": 31, "output_tokens": 4}}},
]


@pytest.mark.parametrize(
    ("path", "said"), [("/v1/messages", ANTHROPIC), ("/v1/responses", RESPONSE)]
)
def test_the_counts_of_the_other_apis_are_had_too(path, said):
    reports = Reports()
    with passing(events(*said, named=True), report=reports) as one:
        assert one.named(path, **OWN_BODIES[path]) == said
        assert "stream_options" not in one.native()
    assert reports == [(31, 4)]


def test_those_are_had_though_the_client_leaves_once_it_has_read_the_last_event():
    """As OpenAI's own does: the end of the answer, which comes in a packet of its own, is nothing
    to it."""
    reports = Reports()
    with passing(CHUNKS[:-1], report=reports) as one:
        with contextlib.closing(one.connect()) as connection:
            connection.request("POST", CHAT, json.dumps({"messages": HELLO, "stream": True}))
            answer = connection.getresponse()
            while b"[DONE]" not in answer.readline():
                pass
            answer.close()
        until(lambda: reports, what="the report")
    assert reports == [(5, 2)]


def test_those_of_a_whole_answer_are_had():
    reports = Reports()
    with passing(CHUNKS, report=reports) as one:
        one.chat()
    assert reports == [(5, 2)]


# --- what fails ---


REFUSALS = [
    (whole({"error": TOO_LONG}, 400), 400, "context_length_exceeded", "messages"),
    (whole({"error": {"message": "bad temperature"}}, 400), 400, None, None),
    (whole({"error": {"message": "image input is not supported"}}, 500), 400,
     "unsupported_parameter", None),
    (whole({"error": {"message": "no embeddings"}}, 501), 501, "not_offered", None),
    (whole({"error": "not among what may be asked"}, 403), 501, "not_offered", None),
    (whole({"error": {"message": "Loading model"}}, 503), 503, "queue_full", None),
    (whole({"error": {"message": "CUDA error"}}, 500), 502, "engine_error", None),
    (whole(b"[]"), 502, "engine_error", None),
    (events(chunk(delta={}), {"error": {"message": "out of memory"}}), 502, "engine_error", None),
    (events(chunk(delta={"content": "Hi"})), 502, "engine_error", None),
    (events("<html>"), 502, "engine_error", None),
    ((b"",), 502, "engine_unreachable", None),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "status", "code", "param"), REFUSALS)
def test_what_the_engine_refuses_has_the_form_of_the_api(answer, status, code, param):
    with passing(answer) as one:
        found, said = one.chat()
        error = said["error"]
        assert (found, error["code"], error["param"]) == (status, code, param)


def test_too_long_a_prompt_has_both_numbers_in_each_api():
    with passing(whole({"error": TOO_LONG}, 400)) as one:
        words = one.chat()[1]["error"]["message"]
        assert "maximum context length is 256 tokens" in words and "631 tokens" in words
        status, answer = one.post("/v1/messages", **OWN_BODIES["/v1/messages"])
        assert (status, answer["type"]) == (400, "error")
        assert answer["error"] == {"type": "invalid_request_error", "message": words}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"x": [1e400]}', b'{"x": NaN}'])
def test_what_is_no_object_is_refused(body):
    with passing(whole(ANSWER)) as one:
        status, _, said = one.ask("POST", CHAT, body)
        assert (status, json.loads(said)["error"]["code"]) == (400, "invalid_json")
        assert one.engine.bodies == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_that_breaks_off_ends_with_an_error(path):
    said = {"type": "x", "choices": [{"delta": {"content": "Hi"}}]}
    with passing(events(said)) as one:
        text = one.ask("POST", path, {**OWN_BODIES[path], "stream": True})[2].decode()
    *_, last = filter(None, text.split("\n\n"))
    error = json.loads(last.partition("data: ")[2])
    assert "broke off" in error["error"]["message"]
    assert last.startswith("event: error\n") == (path == "/v1/messages")


ELSEWHERE = "http://10.0.0.7:9100/metrics"
FETCHED = {
    "/v1/chat/completions": {"type": "image_url", "image_url": {"url": ELSEWHERE}},
    "/v1/responses": {"type": "input_image", "image_url": ELSEWHERE},
    "/v1/messages": {"type": "image", "source": {"type": "url", "url": ELSEWHERE}},
}


@pytest.mark.parametrize("path", FETCHED)
@pytest.mark.parametrize("url", [ELSEWHERE, "file:///etc/passwd", "data:image/png;base64,AA"])
def test_an_engine_is_not_made_to_ask_others(path, url):
    """One that is not sealed could reach them."""
    key = "input" if path == "/v1/responses" else "messages"
    part = json.loads(json.dumps(FETCHED[path]).replace(ELSEWHERE, url))
    said = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]
    with passing(CHUNKS if path == CHAT else whole(ANSWER)) as one:
        status, answer = one.post(path, **{**OWN_BODIES[path], key: said})
        inline = url.startswith("data:")
        assert status == (200 if inline else 400), answer
        assert len(one.engine.heads) == inline
        assert inline or "must be a data: URL" in answer["error"]["message"]
