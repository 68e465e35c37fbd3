"""The package anthropic."""

import anthropic
import pytest
from wanted import CITY, QUESTION, TOOL

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
