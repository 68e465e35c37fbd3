"""Chats: what Ollama is asked for what OpenAI's API asks, and its answers in OpenAI's shapes."""

import json

import pytest
from compatible_layer import CHAT, COUNTS, END, HELLO, chat_end, layer, line, said, streamed, whole

ANSWER = {"message": {"role": "assistant", "content": "Hi \u2713 there"}, **END}
CALL = {"function": {"name": "add", "arguments": {"b": 1, "a": [2]}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
ABLE = {"capabilities": ["completion", "tools", "vision", "thinking"]}
UNABLE = {"capabilities": ["completion"]}


def asked(**body):
    """What Ollama is asked for a body."""
    with layer(whole(ANSWER)) as one:
        status, found = one.chat(**body)
        assert status == 200, found
        assert one.engine.heads[-1].startswith(b"POST /api/chat ")
        return one.native()


def test_an_answer_in_one_piece():
    with layer(whole(ANSWER)) as one:
        _, answer = one.chat(model="known:latest")
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", "known:latest")
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hi ✓ there", "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def test_every_request_is_read_whole_or_refused():
    native = asked()
    assert native == {
        "model": "known",
        "messages": HELLO,
        "stream": False,
        "truncate": False,
        "shift": False,
        "options": {},
    }


def test_what_is_asked_under_other_names():
    given = {"temperature": 0, "top_p": 0.5, "seed": 7, "frequency_penalty": 1, "top_k": 3}
    native = asked(**given, presence_penalty=-1, min_p=0.1, max_tokens=5, stop="X")
    assert native["options"] == {
        **given,
        "presence_penalty": -1,
        "min_p": 0.1,
        "num_predict": 5,
        "stop": ["X"],
    }


@pytest.mark.parametrize("seed", [2**32 - 1, 2**63 - 1, -(2**63)])
def test_a_seed_may_be_any_number_of_64_bits(seed):
    """As OpenAI has it; Ollama takes them, too."""
    assert asked(seed=seed)["options"] == {"seed": seed}


def test_the_newer_name_of_the_limit_goes_first():
    assert asked(max_tokens=5, max_completion_tokens=9, stop=["a", "b"])["options"] == {
        "num_predict": 9,
        "stop": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("form", "native"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"b": 1, "a": 2}}},
         {"b": 1, "a": 2}),
    ],
)  # fmt: skip
def test_the_form_of_the_answer(form, native):
    assert asked(response_format=form).get("format") == native


def test_what_changes_nothing_is_taken():
    harmless = {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"}
    harmless |= {"n": 1, "logit_bias": {}, "stop": None, "parallel_tool_calls": True}
    harmless |= {"stream_options": None, "modalities": ["text"], "prediction": {"type": "content"}}
    assert asked(**harmless) == asked()


def test_messages_of_all_kinds():
    call = {"id": "c1", "type": "function"}
    arguments = '{"b": 1, "a": [2]}'
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    native = asked(
        messages=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": parts, "name": "me"},
            {
                "role": "assistant",
                "content": None,
                "reasoning": "hm",
                "tool_calls": [{**call, "function": {"name": "add", "arguments": arguments}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
        ]
    )
    assert native["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one\ntwo"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": {**CALL["function"], "index": 0}}],
        },
        {"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "c1"},
    ]


def test_images_come_in_the_message():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "x"}}
    with layer(whole(ABLE), whole(ANSWER)) as one:
        one.chat(messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}])
        [message] = one.native()["messages"]
    assert message == {"role": "user", "content": "What?", "images": ["aGk="]}


def test_what_a_model_cannot_is_refused_by_name():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    with layer(whole(UNABLE)) as one:
        unsupported = (400, "unsupported_parameter")
        messages = [{"role": "user", "content": [image]}]
        assert one.refused(messages=messages) == (*unsupported, "messages")
        assert one.refused(tools=TOOLS) == (*unsupported, "tools")
        assert one.refused(reasoning_effort="low") == (*unsupported, "reasoning_effort")
        assert len(one.engine.heads) == 1, "what the model can is remembered"


# --- tools ---


def test_tools_are_offered_as_ollama_reads_them():
    function = {"name": "now", "description": "The time"}
    with layer(whole(ABLE), whole(ANSWER)) as one:
        one.chat(tools=[*TOOLS, {"type": "function", "function": function}])
        first, second = one.native()["tools"]
    assert first["function"]["parameters"] == {"type": "object", "properties": {}}
    assert second["function"] == {**function, "parameters": {"type": "object", "properties": {}}}


def test_tools_that_must_not_be_called_are_not_offered():
    assert "tools" not in asked(tools=TOOLS, tool_choice="none")


def test_calls_of_tools_in_one_piece():
    message = {"role": "assistant", "content": "", "tool_calls": [CALL, {"id": "c2", **CALL}]}
    with layer(whole({"message": message, **END})) as one:
        [choice] = one.chat()[1]["choices"]
    first, second = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    assert first["id"].startswith("call_") and second["id"] == "c2"
    assert (first["type"], first["function"]["name"]) == ("function", "add")
    assert json.loads(first["function"]["arguments"]) == {"b": 1, "a": [2]}
    assert first["function"]["arguments"].startswith('{"b"'), "in the order of the model"


def test_calls_of_tools_in_a_stream_are_numbered():
    lines = [said("", tool_calls=[CALL]), said("", tool_calls=[CALL])]
    with layer(streamed(*lines, chat_end())) as one:
        *events, end, done = one.stream()
    calls = [event["choices"][0]["delta"]["tool_calls"][0] for event in events]
    assert [call["index"] for call in calls] == [0, 1] and calls[0]["id"] != calls[1]["id"]
    assert json.loads(calls[0]["function"]["arguments"]) == CALL["function"]["arguments"]
    assert end["choices"][0]["finish_reason"] == "tool_calls" and done == "data: [DONE]"


# --- thinking ---


@pytest.mark.parametrize(
    ("effort", "shown", "think"),
    [
        ("none", None, False),
        ("low", ABLE, True),
        ("medium", {**ABLE, "details": {"family": "gptoss"}}, "medium"),
        ("minimal", {**ABLE, "parser": "harmony"}, "low"),
        ("xhigh", {**ABLE, "parser": "harmony"}, "high"),
    ],
)
def test_the_effort_of_thinking(effort, shown, think):
    with layer(*([whole(shown)] if shown else []), whole(ANSWER)) as one:
        assert one.chat(reasoning_effort=effort)[0] == 200
        assert one.native()["think"] == think


def test_what_the_model_thinks_stands_apart():
    message = {"role": "assistant", "content": "4", "thinking": "two and two"}
    lines = [said("", thinking="t\u2713w"), said("", thinking="o"), said("4"), chat_end()]
    with layer(whole({"message": message, **END}), streamed(*lines)) as one:
        assert one.chat()[1]["choices"][0]["message"]["reasoning"] == "two and two"
        deltas = [event["choices"][0]["delta"] for event in one.stream()[:-1]]
    first, *deltas = deltas
    assert first == {"role": "assistant", "content": "", "reasoning": "t✓w"}
    assert deltas == [{"reasoning": "o"}, {"content": "4"}, {}]


# --- streams ---


def test_a_stream_has_a_delta_for_each_line_and_an_end():
    with layer(streamed(said("Hi"), said(" there"), chat_end(done_reason="length"))) as one:
        first, second, end, done = one.stream(model="m")
        assert one.native()["stream"] is True
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None}
    ]
    assert second["choices"] == [
        {"index": 0, "delta": {"content": " there"}, "finish_reason": None}
    ]
    assert end["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert done == "data: [DONE]"
    heads = [{k: event[k] for k in ("id", "object", "created", "model")} for event in (first, end)]
    assert heads[0] == heads[1] and heads[0]["object"] == "chat.completion.chunk"
    assert first.keys() == second.keys() == end.keys()


def test_counts_come_in_an_event_of_their_own_if_they_are_asked_for():
    answer = streamed(said("Hi"), said("!"), chat_end())
    with layer(answer) as one:
        *events, counts, _ = one.stream(stream_options={"include_usage": True})
        assert all("usage" not in event for event in one.stream()[:-1])
    assert [event["usage"] for event in events] == [None, None, None]
    assert counts["choices"] == [] and counts["usage"]["total_tokens"] == sum(COUNTS.values())


TEXTS = ["a", ' "quoted" ', "\\", "line\nend", "ü✓", "</s>", '"},"done":false}', ' \\"x', "", "z"]


def test_texts_come_through_unchanged_however_they_are_cut():
    lines = b"".join([*(said(text) for text in TEXTS), chat_end()])
    data = b"".join([*streamed(lines)])
    cuts = [[data[i : i + size] for i in range(0, len(data), size)] for size in (7, 64, len(data))]
    for cut in cuts:
        with layer(cut) as one:
            deltas = [e["choices"][0]["delta"] for e in one.stream()[:-1] if e["choices"]]
        assert "".join(delta.get("content", "") for delta in deltas) == "".join(TEXTS)


def test_many_lines_in_one_chunk_of_http():
    both = b"".join(json.dumps(v, separators=(",", ":")).encode() + b"\n" for v in (
        {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "b"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, **END}))  # fmt: skip
    chunk = b"%x\r\n%b\r\n" % (len(both), both)
    with layer(streamed(chunk)) as one:
        events = one.stream()
    assert [e["choices"][0]["delta"].get("content") for e in events[:-1]] == ["a", "b", None]


def test_an_answer_without_a_text_has_its_end():
    with layer(streamed(chat_end())) as one:
        [end, _] = one.stream()
    assert end["choices"][0]["delta"]["role"] == "assistant"
    assert end["choices"][0]["finish_reason"] == "stop"


# --- log probabilities ---

TOKEN = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
PROBABLE = [{**TOKEN, "top_logprobs": [TOKEN, {"token": "Ho", "logprob": -1}]}]


def test_log_probabilities():
    text = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "logprobs": PROBABLE}
    with layer(whole({**ANSWER, "logprobs": PROBABLE}),
               streamed(line({**text, "done": False}), chat_end())) as one:  # fmt: skip
        [choice] = one.chat(logprobs=True, top_logprobs=2)[1]["choices"]
        native = one.native()
        [streamed_choice] = one.stream(logprobs=True)[0]["choices"]
    assert (native["logprobs"], native["top_logprobs"]) == (True, 2)
    [token] = choice["logprobs"]["content"]
    assert choice["logprobs"] == streamed_choice["logprobs"]
    assert token["top_logprobs"] == [TOKEN, {"token": "Ho", "logprob": -1, "bytes": None}]


# --- what is refused ---


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"tool_choice": "required", "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"verbosity": "low"}, "verbosity"),
        ({"functions": []}, "functions"),
        ({"tools": [{"type": "custom", "function": {"name": "x"}}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
         "messages[0].content[0].type"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(body, param):
    with layer(whole(ANSWER)) as one:
        assert one.refused(**body) == (400, "unsupported_parameter", param)
        assert one.engine.heads == []


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": True}, "invalid_type", "max_tokens"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"stop": 5}, "invalid_type", "stop"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"stream_options": {"include_usage": 1}}, "invalid_type", "stream_options.include_usage"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]},
         "missing_required_parameter", "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url":
            {"url": "https://example.org/a.png"}}]}]},
         "invalid_value", "messages[0].content[0].image_url.url"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function":
            {"name": "f", "arguments": "[]"}}]}]},
         "invalid_value", "messages[0].tool_calls[0].function.arguments"),
        ({"tools": [{"type": "function", "function": {}}]},
         "missing_required_parameter", "tools[0].function.name"),
        ({"response_format": {"type": "json_schema"}},
         "missing_required_parameter", "response_format"),
        ({"nonsense": 1}, "unknown_parameter", "nonsense"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(body, code, param):
    with layer(whole(ANSWER)) as one:
        assert one.refused(**body) == (400, code, param)
        assert one.engine.heads == []


@pytest.mark.parametrize("number", ["1e400", "-1E+0400", f"{'9' * 310}.0", "NaN", "-Infinity"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_number_that_json_does_not_know_goes_no_further(number, as_text):
    """It would be sent on as Infinity, or NaN; in a body, and in the text of a call's arguments."""
    called = {"name": "f", "arguments": '{"x": @}' if as_text else "{}"}
    call = {"id": "c", "type": "function", "function": called}
    body = {
        "messages": [
            {"role": "user", "content": "1e400, NaN"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": 0}}}],
    }
    text = json.dumps(body).replace(
        "@" if as_text else '"x": 0', number if as_text else f'"x": {number}'
    )
    with layer(whole(ANSWER)) as one:
        status, _, said = one.ask("POST", CHAT, text.encode())
        assert status == 400 and one.engine.heads == []
    assert as_text or number[:40] in json.loads(said)["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'{"messages": "\xff"}', b"[" * 100_000])
def test_what_is_no_body_is_refused(body):
    with layer(whole(ANSWER)) as one:
        status, _, text = one.ask("POST", CHAT, body)
    error = json.loads(text)["error"]
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_json")
