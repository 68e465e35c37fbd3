"""The package anthropic."""

import anthropic
import pytest
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter
from wanted import ASKED_FOR_JSON, CITY, QUESTION, TOO_LONG, TOOL, is_of_the_schema

ASK = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module", params=["api_key", "auth_token"])
def client(deployed, request):
    """The token comes in one of two headers."""
    given = {request.param: deployed.token}
    return anthropic.Anthropic(base_url=deployed.url, max_retries=0, **given)


def message(client, deployed, **more):
    body = {"model": deployed.model, "messages": ASK, "max_tokens": 24, **more}
    return client.messages.create(**body)


def test_chat_stream_and_usage(client, deployed):
    whole = message(client, deployed)
    (block,) = whole.content
    assert "Paris" in block.text and 0 < whole.usage.output_tokens <= 24
    with client.messages.stream(model=deployed.model, messages=ASK, max_tokens=24) as stream:
        assert "".join(stream.text_stream) == block.text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens


def test_events_are_those_of_the_api(client, deployed):
    body = {"model": deployed.model, "messages": ASK, "max_tokens": 5, "stream": True}
    events = client.messages.with_raw_response.create(**body).http_response.iter_lines()
    found = [line.removeprefix("data: ") for line in events if line.startswith("data: ")]
    kind = TypeAdapter(RawMessageStreamEvent)
    kinds = [kind.validate_json(event).type for event in found]
    block = ["content_block_start", *["content_block_delta"] * (len(kinds) - 5),
             "content_block_stop"]  # fmt: skip
    assert kinds == ["message_start", *block, "message_delta", "message_stop"]


def test_json_schema(client, deployed):
    form = {"type": "json_schema", "schema": CITY}
    ask = [{"role": "user", "content": ASKED_FOR_JSON}]
    answer = message(client, deployed, messages=ask, max_tokens=64, output_config={"format": form})
    assert is_of_the_schema(answer.content[0].text)


def test_tools(client, deployed):
    tools = [{**TOOL, "input_schema": CITY}]
    answer = message(client, deployed, tools=tools, max_tokens=60)
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert call.name == "get_weather" and isinstance(call.input, dict)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    said = [*ASK, {"role": "assistant", "content": answer.content},
            {"role": "user", "content": [result]}]  # fmt: skip
    assert message(client, deployed, messages=said).content[0].text


def test_refusals(client, deployed):
    wrong = anthropic.Anthropic(base_url=deployed.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        message(wrong, deployed)
    with pytest.raises(anthropic.NotFoundError):
        message(client, deployed, model="no-such-model")
    with pytest.raises(anthropic.NotFoundError, match="Tokens are not counted"):
        client.messages.count_tokens(model=deployed.model, messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match=r"tool_choice\.type"):
        message(client, deployed, tool_choice={"type": "any"})
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError, match="maximum context length is") as refused:
            message(client, deployed, messages=[{"role": "user", "content": TOO_LONG}],
                    stream=stream)  # fmt: skip
        assert refused.value.body["error"]["type"] == "invalid_request_error"


def test_tools_in_a_stream(client, deployed):
    tools = [{**TOOL, "input_schema": CITY}]
    body = {"model": deployed.model, "messages": ASK, "max_tokens": 60, "tools": tools}
    with client.messages.stream(**body) as stream:
        answer = stream.get_final_message()
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert (answer.stop_reason, call.name) == ("tool_use", "get_weather")
    assert isinstance(call.input, dict) and call.input
