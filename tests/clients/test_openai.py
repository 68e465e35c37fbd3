"""The package openai."""

import json

import openai
import pytest
from openai_asked import (
    ASK,
    chat,
    check_json_schema,
    check_list_chat_and_stream,
    check_refusals,
    check_responses,
    client_of,
)
from wanted import ASKED_FOR_JSON, CITY, OPENAI_TOOL, QUESTION, TOO_LONG, is_of_the_schema


@pytest.fixture(scope="module")
def client(deployed):
    return client_of(deployed)


def test_list_chat_stream_and_usage(client, deployed):
    usage, streamed = check_list_chat_and_stream(client, deployed)
    assert streamed == usage


def test_tools(client, deployed):
    (call,) = (
        chat(client, deployed, tools=[OPENAI_TOOL], max_completion_tokens=60)
        .choices[0].message.tool_calls
    )  # fmt: skip
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments), dict)
    said = [*ASK, {"role": "assistant", "tool_calls": [call.model_dump()]},
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}]  # fmt: skip
    assert chat(client, deployed, messages=said).choices[0].message.content


def test_json_schema(client, deployed):
    check_json_schema(client, deployed)


def test_embeddings(client, deployed):
    """By default this client asks for base64."""
    found = client.embeddings.create(model=deployed.model, input=["a cat", "a dog"])
    assert len(found.data) == 2 and len(found.data[0].embedding) == len(found.data[1].embedding) > 9


def test_responses(client, deployed):
    check_responses(client, deployed)


def test_tools_of_responses(client, deployed):
    tool = {"type": "function", **OPENAI_TOOL["function"]}
    ask = {"model": deployed.model, "tools": [tool], "max_output_tokens": 60, "input": QUESTION}
    *events, last = client.responses.create(**ask, stream=True)
    streamed = last.response
    for answer in (client.responses.create(**ask), streamed):
        (call,) = [item for item in answer.output if item.type == "function_call"]
        assert call.name == "get_weather" and isinstance(json.loads(call.arguments), dict)
    assert [e.delta for e in events if e.type.endswith("arguments.delta")] == [call.arguments]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    said = [*ASK, *streamed.output, result]
    assert client.responses.create(model=deployed.model, input=said).output_text


def test_json_schema_of_responses(client, deployed):
    form = {"type": "json_schema", "name": "city", "schema": CITY}
    answer = client.responses.create(
        model=deployed.model, input=ASKED_FOR_JSON, text={"format": form}, max_output_tokens=64
    )
    assert is_of_the_schema(answer.output_text)


def test_refusals(client, deployed):
    check_refusals(client, deployed)
    with pytest.raises(openai.BadRequestError, match="maximum context length is") as refused:
        client.responses.create(model=deployed.model, input=TOO_LONG)
    assert refused.value.code == "context_length_exceeded"
