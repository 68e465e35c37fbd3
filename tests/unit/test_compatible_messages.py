"""Anthropic's messages: what Ollama is asked for them, and its answers in Anthropic's shapes."""

import json

import pytest
from compatible_layer import COUNTS, END, STREAM_HEAD, chat_end, layer, line, said, streamed, whole

PATH = "/v1/messages"
HELLO = [{"role": "user", "content": "Hello"}]
BODY = {"messages": HELLO, "max_tokens": 9}
ANSWER = {"message": {"role": "assistant", "content": "Hi \u2713 there"}, **END}
CALL = {"function": {"name": "add", "arguments": {"b": 1, "a": [2]}}}
TOOLS = [{"name": "add", "description": "Adds", "input_schema": {"type": "object"}}]
ABLE = {"capabilities": ["completion", "tools", "vision", "thinking"]}
UNABLE = {"capabilities": ["completion"]}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
USAGE = {"input_tokens": COUNTS["prompt_eval_count"], "output_tokens": COUNTS["eval_count"]}


def asked(*shown, **body):
    """What Ollama is asked for a body, after what it says of the model."""
    with layer(*map(whole, shown), whole(ANSWER)) as one:
        status, found = one.post(PATH, **{**BODY, **body})
        assert status == 200, found
        assert one.engine.heads[-1].startswith(b"POST /api/chat ")
        return one.native()


def refused(one, **body):
    """Status, type and words of an error."""
    status, found = one.post(PATH, **{**BODY, **body})
    assert found.keys() == {"type", "error"} and found["type"] == "error"
    assert found["error"].keys() == {"type", "message"}
    return status, found["error"]["type"], found["error"]["message"]


def test_an_answer_in_one_piece():
    with layer(whole(ANSWER)) as one:
        _, answer = one.post(PATH, model="known:latest", **BODY)
    assert answer.pop("id").startswith("msg_")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "known:latest",
        "content": [{"type": "text", "text": "Hi ✓ there"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }


def test_every_request_is_read_whole_or_refused():
    assert asked() == {
        "model": "known",
        "messages": HELLO,
        "stream": False,
        "truncate": False,
        "shift": False,
        "think": False,
        "options": {"num_predict": 9},
    }


def test_what_is_asked_under_other_names():
    given = {"temperature": 0, "top_p": 0.5, "top_k": 3}
    native = asked(**given, stop_sequences=["X"], system="Be kind.")
    assert native["options"] == {**given, "stop": ["X"], "num_predict": 9}
    assert native["messages"][0] == {"role": "system", "content": "Be kind."}


def test_what_changes_nothing_is_taken():
    harmless = {"metadata": {"user_id": "me"}, "service_tier": "auto", "speed": "standard"}
    harmless |= {"cache_control": {"type": "ephemeral"}, "tools": None, "system": None}
    harmless |= {"thinking": {"type": "disabled"}, "tool_choice": {"type": "auto"}}
    assert asked(**harmless) == asked()


def test_messages_of_all_kinds():
    texts = [{"type": "text", "text": t, "cache_control": {"type": "ephemeral"}} for t in "ab"]
    result = {"type": "tool_result", "tool_use_id": "c1"}
    native = asked(
        ABLE,
        system=texts,
        messages=[
            {"role": "user", "content": [*texts, IMAGE]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    texts[0],
                    {"type": "tool_use", "id": "c1", "name": "add", "input": {"b": 1, "a": 2}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {**result, "content": "3"},
                    {**result, "content": [texts[1]], "is_error": True},
                    result,
                    texts[0],
                ],
            },
        ],
    )
    call = {"name": "add", "arguments": {"b": 1, "a": 2}, "index": 0}
    tool = {"role": "tool", "tool_name": "add", "tool_call_id": "c1"}
    assert native["messages"] == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": "a\nb", "images": ["aGk="]},
        {
            "role": "assistant",
            "content": "a",
            "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": call}],
        },
        {**tool, "content": "3"},
        {**tool, "content": "b"},
        {**tool, "content": ""},
        {"role": "user", "content": "a"},
    ]
    assert list(native["messages"][2]["tool_calls"][0]["function"]["arguments"]) == ["b", "a"]


def test_the_form_of_the_answer():
    form = {"type": "json_schema", "schema": {"b": 1, "a": 2}}
    assert asked(output_config={"format": form})["format"] == {"b": 1, "a": 2}


# --- tools ---


def test_tools_are_offered_as_ollama_reads_them():
    [tool] = asked(ABLE, tools=TOOLS)["tools"]
    parameters = {"type": "object", "properties": {}}
    function = {"name": "add", "description": "Adds", "parameters": parameters}
    assert tool == {"type": "function", "function": function}


def test_tools_that_must_not_be_called_are_not_offered():
    assert "tools" not in asked(tools=TOOLS, tool_choice={"type": "none"})


def test_calls_of_tools_in_one_piece():
    message = {"role": "assistant", "content": "So:", "tool_calls": [CALL, {"id": "c2", **CALL}]}
    with layer(whole({"message": message, **END})) as one:
        _, answer = one.post(PATH, **BODY)
    text, first, second = answer["content"]
    assert (text["text"], answer["stop_reason"]) == ("So:", "tool_use")
    assert first["id"] != second["id"] == "c2"
    assert second == {"type": "tool_use", "id": "c2", "name": "add", "input": {"b": 1, "a": [2]}}


# --- thinking ---


@pytest.mark.parametrize(
    ("thinking", "effort", "shown", "think"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, None, ABLE, True),
        ({"type": "adaptive"}, "low", ABLE, True),
        ({"type": "adaptive"}, None, {**ABLE, "parser": "harmony"}, "medium"),
        ({"type": "adaptive"}, "max", {**ABLE, "parser": "harmony"}, "high"),
    ],
)
def test_a_model_thinks_when_it_is_asked_to(thinking, effort, shown, think):
    native = asked(shown, thinking=thinking, output_config={"effort": effort})
    assert native["think"] == think


def test_what_the_model_thinks_is_a_block_of_its_own():
    message = {"role": "assistant", "content": "4", "thinking": "two and two"}
    with layer(whole({"message": message, **END})) as one:
        thought, text = one.post(PATH, **BODY)[1]["content"]
    assert thought == {"type": "thinking", "thinking": "two and two", "signature": ""}
    assert text == {"type": "text", "text": "4"}


# --- why it ended ---


@pytest.mark.parametrize(
    ("written", "reason"), [(9, "max_tokens"), (8, "model_context_window_exceeded")]
)
def test_an_answer_that_is_cut_says_where(written, reason):
    cut = {"done_reason": "length", "eval_count": written}
    with layer(whole({**ANSWER, **cut}), streamed(said("Hi"), chat_end(**cut))) as one:
        assert one.post(PATH, **BODY)[1]["stop_reason"] == reason
        assert one.named(PATH, **BODY)[-2]["delta"]["stop_reason"] == reason


# --- streams ---


def test_a_stream_has_blocks_one_after_another():
    lines = [said("", thinking="t\u2713"), said("", thinking='"o"'), said("Hi"), said(' "you"\n')]
    lines += [said("", tool_calls=[CALL]), said("", tool_calls=[{"id": "c2", **CALL}])]
    with layer(streamed(*lines, chat_end())) as one:
        start, *events, delta, stop = one.named(PATH, model="m", **BODY)
        assert one.native()["stream"] is True
    message = start["message"]
    assert start["type"] == "message_start" and message["id"].startswith("msg_")
    assert (message["model"], message["content"], message["stop_reason"]) == ("m", [], None)
    usage = {"input_tokens": 0, "output_tokens": 0}
    assert (message["type"], message["role"], message["usage"]) == ("message", "assistant", usage)
    kinds = [(e["index"], e["type"].removeprefix("content_block_")) for e in events]
    assert kinds == [
        *((0, kind) for kind in ("start", "delta", "delta", "stop")),
        *((1, kind) for kind in ("start", "delta", "delta", "stop")),
        *((2, kind) for kind in ("start", "delta", "stop")),
        *((3, kind) for kind in ("start", "delta", "stop")),
    ]
    blocks = [e["content_block"] for e in events if "content_block" in e]
    assert blocks[0] == {"type": "thinking", "thinking": "", "signature": ""}
    assert blocks[1] == {"type": "text", "text": ""}
    assert blocks[3] == {"type": "tool_use", "id": "c2", "name": "add", "input": {}}
    deltas = [e["delta"] for e in events if "delta" in e]
    assert deltas[:4] == [
        {"type": "thinking_delta", "thinking": "t✓"},
        {"type": "thinking_delta", "thinking": '"o"'},
        {"type": "text_delta", "text": "Hi"},
        {"type": "text_delta", "text": ' "you"\n'},
    ]
    assert json.loads(deltas[4]["partial_json"]) == CALL["function"]["arguments"]
    ends = {"stop_reason": "tool_use", "stop_sequence": None}
    assert delta == {"type": "message_delta", "delta": ends, "usage": USAGE}
    assert stop == {"type": "message_stop"}


def test_an_answer_without_a_text_has_its_end():
    with layer(streamed(chat_end())) as one:
        events = [event["type"] for event in one.named(PATH, **BODY)]
    assert events == ["message_start", "message_delta", "message_stop"]


@pytest.mark.parametrize("first", [[], [said("Hi")]])
def test_a_failure_on_the_way_is_the_last_event(first):
    with layer([STREAM_HEAD, *first, line({"error": "it crashed"}), b"0\r\n\r\n"]) as one:
        last = one.named(PATH, **BODY)[-1]
    words = "The engine failed: it crashed"
    assert last == {"type": "error", "error": {"type": "api_error", "message": words}}


def test_the_tokens_are_reported():
    reports = []
    answers = (whole(ANSWER), streamed(said("Hi"), chat_end()))
    with layer(*answers, report=lambda request, usage: reports.append(usage)) as one:
        one.post(PATH, **BODY)
        one.named(PATH, **BODY)
    counts = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert reports == [counts, counts]


# --- what is refused ---


def user(*blocks):
    return {"messages": [{"role": "user", "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": TOOLS, "tool_choice": {"type": "any"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool", "name": "add"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
         "tool_choice.disable_parallel_tool_use"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        (user({"type": "document", "source": {}}), "messages[0].content[0].type"),
        (user({"type": "image", "source": {"type": "url", "url": "http://x"}}),
         "messages[0].content[0].source.type"),
        (user({"type": "image", "source": {**IMAGE["source"], "media_type": "image/gif"}}),
         "messages[0].content[0].source.media_type"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"container": "x"}, "container"),
        ({"context_management": {}}, "context_management"),
        ({"speed": "fast"}, "speed"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"nonsense": 1}, "nonsense"),
        ({"user": "me"}, "user"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": "X"}, "stop_sequences"),
        ({"stream": 1}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        (user({"type": "text"}), "messages[0].content[0]"),
        (user({"type": "tool_use", "id": "c", "name": "f", "input": {}}), "messages[0]"),
        (user({"type": "tool_result", "tool_use_id": "c", "content": [{"type": "thinking"}]}),
         "messages[0].content[0].content[0].type"),
        ({"messages": [{"role": "assistant", "content": [
            {"type": "tool_use", "id": "c", "name": "f", "input": "{}"}]}]},
         "messages[0].content[0].input"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"tools": [{"name": "add"}]}, "tools[0].input_schema"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_not_supported_is_named(body, param):
    with layer(whole(ANSWER)) as one:
        status, kind, words = refused(one, **body)
        assert (status, kind) == (400, "invalid_request_error")
        assert param in words.split()[0] or words.endswith(f": {param}."), words
        assert one.engine.heads == []


def test_a_body_without_a_limit_is_refused():
    with layer(whole(ANSWER)) as one:
        status, found = one.post(PATH, messages=HELLO)
    assert (status, found["error"]["message"]) == (400, "Missing required parameter: max_tokens.")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (user(IMAGE), "messages"),
        ({"tools": TOOLS}, "tools"),
        ({"thinking": {"type": "adaptive"}}, "thinking"),
    ],
)
def test_what_a_model_cannot_is_refused_by_name(body, param):
    with layer(whole(UNABLE)) as one:
        status, kind, words = refused(one, **body)
    assert (status, kind) == (400, "invalid_request_error") and f"({param} asks" in words


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(stream):
    too_long = whole({"error": "the input length exceeds the context length"}, 400)
    loaded = whole({"models": [{"name": "known:latest", "context_length": 512}]})
    long = [{"role": "user", "content": "word " * 1000}]
    with layer(too_long, loaded, spared=()) as one:
        status, kind, words = refused(one, messages=long, stream=stream)
    assert (status, kind) == (400, "invalid_request_error")
    assert "512 tokens" in words and "messages came with about 1250 tokens" in words


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (whole({"error": "model 'x' not found"}, 404), 404, "not_found_error"),
        (whole({"error": "too many"}, 429), 429, "rate_limit_error"),
        (whole({"error": "busy"}, 503), 503, "overloaded_error"),
        (whole(b"<html>504</html>", 504), 504, "timeout_error"),
        (whole({"error": "crashed"}, 500), 502, "api_error"),
        ((b"",), 502, "api_error"),
    ],
)
def test_what_the_engine_refuses(answer, status, kind):
    with layer(answer) as one:
        assert refused(one)[:2] == (status, kind)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", f"{PATH}/count_tokens", 404, "not_found_error"),
        ("POST", f"{PATH}/batches?x=1", 404, "not_found_error"),
        ("GET", PATH, 405, "invalid_request_error"),
        ("POST", PATH, 400, "invalid_request_error"),
    ],
)
def test_paths_and_methods_that_there_are_not(method, path, status, kind):
    with layer(whole(ANSWER)) as one:
        found, _, text = one.ask(method, path, b"{")
        assert (found, json.loads(text)["error"]["type"]) == (status, kind)
        assert one.engine.heads == []
