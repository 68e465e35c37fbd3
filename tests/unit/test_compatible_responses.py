"""OpenAI's responses: what Ollama is asked for them, and its answers in OpenAI's shapes."""

import json

import pytest
from compatible_layer import COUNTS, END, STREAM_HEAD, chat_end, layer, line, said, streamed, whole
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

PATH = "/v1/responses"
ANSWER = {"message": {"role": "assistant", "content": "Hi \u2713 there"}, **END}
CALL = {"function": {"name": "add", "arguments": {"b": 1, "a": [2]}}}
TOOLS = [{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}]
ABLE = {"capabilities": ["completion", "tools", "vision", "thinking"]}
UNABLE = {"capabilities": ["completion"]}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
TOTAL = sum(COUNTS.values())
EVENT = TypeAdapter(ResponseStreamEvent)


def asked(*shown, **body):
    """What Ollama is asked for a body, after what it says of the model."""
    with layer(*map(whole, shown), whole(ANSWER)) as one:
        status, found = one.post(PATH, **{"input": "Hello", **body})
        assert status == 200, found
        assert one.engine.heads[-1].startswith(b"POST /api/chat ")
        return one.native()


def events_of(one, **body):
    """The events of a stream, each of which is what OpenAI's own client takes it for."""
    found = one.named(PATH, **{"input": "Hello", **body})
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        assert EVENT.validate_python(event).type == event["type"]
    return found


def test_an_answer_in_one_piece():
    with layer(whole(ANSWER)) as one:
        _, answer = one.post(PATH, model="known:latest", input="Hello", metadata={"a": "b"})
    read = Response.model_validate(answer)
    assert (read.output_text, read.status, read.model) == (
        "Hi ✓ there",
        "completed",
        "known:latest",
    )
    assert (read.usage.input_tokens, read.usage.output_tokens) == tuple(COUNTS.values())
    assert (read.usage.total_tokens, answer["store"], read.metadata) == (TOTAL, False, {"a": "b"})
    assert (read.error, read.incomplete_details, read.tool_choice) == (None, None, "auto")
    [item] = answer["output"]
    assert item.pop("id").startswith("msg_") and answer["id"].startswith("resp_")
    text = {"type": "output_text", "text": "Hi ✓ there", "annotations": [], "logprobs": []}
    assert item == {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }


def test_every_request_is_read_whole_or_refused():
    assert asked() == {
        "model": "known",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
        "truncate": False,
        "shift": False,
        "options": {},
    }


def test_what_is_asked_under_other_names():
    given = {"temperature": 0, "top_p": 0.5}
    native = asked(**given, max_output_tokens=5, instructions="Be kind.")
    assert native["options"] == {**given, "num_predict": 5}
    assert native["messages"][0] == {"role": "system", "content": "Be kind."}


def test_what_changes_nothing_is_taken():
    harmless = {"store": False, "background": False, "include": [], "truncation": "disabled"}
    harmless |= {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "tools": []}
    harmless |= {"previous_response_id": None, "parallel_tool_calls": True, "top_logprobs": 0}
    harmless |= {"text": {"format": {"type": "text"}, "verbosity": "medium"}, "reasoning": {}}
    assert asked(**harmless) == asked()


def test_items_of_all_kinds():
    """What the model thought, said and called is one message, as it was one answer."""
    call = {"type": "function_call", "name": "add"}
    native = asked(
        ABLE,
        input=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "What?"}, IMAGE]},
            {"type": "reasoning", "id": "r", "summary": [], "content": [
                {"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "id": "m", "status": "completed", "content": [
                {"type": "output_text", "text": "So:", "annotations": []}]},
            {**call, "call_id": "c1", "arguments": '{"b": 1, "a": 2}', "id": "fc_1"},
            {**call, "call_id": "c2", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": "3"},
            {"type": "function_call_output", "call_id": "c2", "output": [
                {"type": "input_text", "text": "0"}]},
        ],
    )  # fmt: skip
    first = {"name": "add", "arguments": {"b": 1, "a": 2}, "index": 0}
    second = {"name": "add", "arguments": {}, "index": 1}
    assert native["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What?", "images": ["aGk="]},
        {
            "role": "assistant",
            "content": "So:",
            "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": first}, {"id": "c2", "function": second}],
        },
        {"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "c1"},
        {"role": "tool", "content": "0", "tool_name": "add", "tool_call_id": "c2"},
    ]


def test_what_others_have_encrypted_is_no_thought():
    items = [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]
    assert asked(input=items)["messages"] == [{"role": "assistant", "content": ""}]


@pytest.mark.parametrize(
    ("form", "native"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "name": "x", "schema": {"b": 1}, "strict": True}, {"b": 1}),
    ],
)
def test_the_form_of_the_answer(form, native):
    assert asked(text={"format": form}).get("format") == native


# --- tools and thinking ---


def test_tools_are_offered_as_ollama_reads_them():
    [tool] = asked(ABLE, tools=TOOLS)["tools"]
    parameters = {"type": "object", "properties": {}}
    function = {"name": "add", "description": "", "parameters": parameters}
    assert tool == {"type": "function", "function": function}
    assert "tools" not in asked(tools=TOOLS, tool_choice="none")


def test_calls_of_tools_in_one_piece():
    message = {"role": "assistant", "content": "", "tool_calls": [CALL, {"id": "c2", **CALL}]}
    with layer(whole(ABLE), whole({"message": message, **END})) as one:
        _, answer = one.post(PATH, input="1+2", tools=TOOLS)
    assert Response.model_validate(answer).tools[0].name == "add"
    first, second = answer["output"]
    assert first["call_id"] != second["call_id"] == "c2" and second["id"].startswith("fc_")
    assert (second["type"], second["name"]) == ("function_call", "add")
    assert second["arguments"] == '{"b": 1, "a": [2]}'


@pytest.mark.parametrize(
    ("effort", "shown", "think"),
    [
        ("none", [], False),
        ("low", [ABLE], True),
        ("minimal", [{**ABLE, "parser": "harmony"}], "low"),
    ],
)
def test_the_effort_of_thinking(effort, shown, think):
    assert asked(*shown, reasoning={"effort": effort})["think"] == think


# --- streams ---


def test_a_stream_has_items_one_after_another():
    lines = [said("", thinking="t\u2713"), said("", thinking='"o"'), said("Hi"), said(' "you"\n')]
    lines += [said("", tool_calls=[CALL])]
    with layer(streamed(*lines, chat_end())) as one:
        found = events_of(one, model="m")
        assert one.native()["stream"] is True
    assert [event["type"].removeprefix("response.") for event in found] == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added"),
        *("reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done"),
        *("content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
        *("output_item.done", "completed"),
    ]
    assert [e["delta"] for e in found if "delta" in e][:4] == ["t✓", '"o"', "Hi", ' "you"\n']
    assert [e["text"] for e in found if "text" in e] == ['t✓"o"', 'Hi "you"\n']
    places = [(e["output_index"], e["item_id"]) for e in found if "item_id" in e]
    assert [index for index, _ in places] == [0] * 5 + [1] * 5 + [2] * 2
    assert len(set(places)) == 3
    created, completed = found[0]["response"], found[-1]["response"]
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    assert created["id"] == completed["id"] and completed["model"] == "m"
    assert completed["output"] == [e["item"] for e in found if e["type"].endswith("item.done")]
    assert [item["id"] for item in completed["output"]] == list(dict(places).values())
    assert completed["usage"]["total_tokens"] == TOTAL


@pytest.mark.parametrize("text", ["a", ' "quoted" ', "\\", "line\nend", "</s>", '"},"done":false}'])
def test_texts_come_through_unchanged(text):
    with layer(streamed(said(text), chat_end())) as one:
        found = events_of(one)
    assert [e["delta"] for e in found if "delta" in e] == [text]
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == text


def test_an_answer_that_is_cut_is_incomplete():
    cut = {"done_reason": "length"}
    with layer(whole({**ANSWER, **cut}), streamed(said("Hi"), chat_end(**cut))) as one:
        answer = one.post(PATH, input="Hello")[1]
        last = events_of(one)[-1]
    assert last["type"] == "response.incomplete"
    for response in (answer, last["response"]):
        assert (response["status"], response["output"][0]["status"]) == ("incomplete",) * 2
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert response["usage"]["total_tokens"] == TOTAL


def test_an_answer_without_a_text_has_its_end():
    with layer(streamed(chat_end())) as one:
        *_, last = events_of(one)
    assert (last["type"], last["response"]["output"]) == ("response.completed", [])


@pytest.mark.parametrize("first", [[], [said("Hi")]])
def test_a_failure_on_the_way_is_the_last_event(first):
    with layer([STREAM_HEAD, *first, line({"error": "it crashed"}), b"0\r\n\r\n"]) as one:
        begun, *_, last = events_of(one)
    assert (begun["type"], last["type"]) == ("response.created", "response.failed")
    error = {"code": "server_error", "message": "The engine failed: it crashed"}
    assert (last["response"]["status"], last["response"]["error"]) == ("failed", error)


def test_what_is_no_text_in_json_is_a_failure():
    bad = b'{"m":1,"message":{"role":"assistant","content":"\\x"},"done":false}\n'
    chunk = b"%x\r\n%b\r\n" % (len(bad), bad)
    with layer(streamed(chunk, chat_end())) as one:
        status, _, text = one.ask("POST", PATH, {"input": "Hello", "stream": True})
    assert status == 200 and b"event: response.failed\n" in text


def test_the_tokens_are_reported():
    reports = []
    answers = (whole(ANSWER), streamed(said("Hi"), chat_end()))
    with layer(*answers, report=lambda request, usage: reports.append(usage)) as one:
        one.post(PATH, input="Hello")
        events_of(one)
    counts = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert reports == [counts, counts]


# --- what is refused ---


def item(**one):
    return {"input": [one]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tool_calls": 2}, "max_tool_calls"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "add"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        (item(type="item_reference", id="x"), "input[0].type"),
        (item(role="user", content=[{"type": "input_file", "file_id": "x"}]),
         "input[0].content[0].type"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(body, param):
    with layer(whole(ANSWER)) as one:
        refused = one.refused(PATH, **{"input": "Hello", **body})
        assert refused == (400, "unsupported_parameter", param)
        assert one.engine.heads == []


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": None}, "invalid_type", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": 5}, "invalid_type", "input"),
        ({"nonsense": 1}, "unknown_parameter", "nonsense"),
        ({"max_tokens": 1}, "unknown_parameter", "max_tokens"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"text": {"format": {"type": "json_schema"}}}, "missing_required_parameter",
         "text.format"),
        (item(content="x"), "missing_required_parameter", "input[0]"),
        (item(role="user"), "missing_required_parameter", "input[0]"),
        (item(role="user", content=[{"type": "input_image", "file_id": "x"}]),
         "missing_required_parameter", "input[0].content[0]"),
        (item(role="user", content=[{"type": "input_image", "image_url": "http://x/a.png"}]),
         "invalid_value", "input[0].content[0].image_url"),
        (item(type="function_call", call_id="c", name="f", arguments="[]"),
         "invalid_value", "input[0].arguments"),
        (item(type="function_call", call_id="c", name="f", arguments={}),
         "invalid_type", "input[0].arguments"),
        (item(type="function_call_output", output="x"), "missing_required_parameter", "input[0]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(body, code, param):
    with layer(whole(ANSWER)) as one:
        assert one.refused(PATH, **{"input": "Hello", **body}) == (400, code, param)
        assert one.engine.heads == []


def test_a_body_without_input_is_refused():
    with layer(whole(ANSWER)) as one:
        assert one.refused(PATH) == (400, "missing_required_parameter", "input")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (item(role="user", content=[IMAGE]), "input"),
        ({"tools": TOOLS}, "tools"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
    ],
)
def test_what_a_model_cannot_is_refused_by_name(body, param):
    with layer(whole(UNABLE)) as one:
        refused = one.refused(PATH, **{"input": "Hello", **body})
    assert refused == (400, "unsupported_parameter", param)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(stream):
    too_long = whole({"error": "the input length exceeds the context length"}, 400)
    loaded = whole({"models": [{"name": "known:latest", "context_length": 512}]})
    with layer(too_long, loaded, spared=()) as one:
        status, found = one.post(PATH, input="word " * 1000, stream=stream)
    error = found["error"]
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "input")
    assert "512 tokens" in error["message"] and "about 1250 tokens" in error["message"]


def test_nothing_is_kept():
    with layer(whole(ANSWER)) as one:
        status, _, text = one.ask("GET", f"{PATH}/resp_1")
    assert (status, json.loads(text)["error"]["code"]) == (404, "unknown_url")
