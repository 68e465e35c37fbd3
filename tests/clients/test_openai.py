"""The package openai."""

import json

import openai
import pytest
from wanted import ASKED_FOR_JSON, CITY, OPENAI_TOOL, QUESTION, TOO_LONG, is_of_the_schema

ASK = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def client(deployed):
    return openai.OpenAI(base_url=f"{deployed.url}/v1", api_key=deployed.token, max_retries=0)


def chat(client, deployed, **more):
    body = {"model": deployed.model, "messages": ASK, "max_completion_tokens": 24, **more}
    return client.chat.completions.create(**body)


def test_list(client, deployed):
    assert [model.id for model in client.models.list()] == [deployed.model]


def test_chat_stream_and_usage(client, deployed):
    whole = chat(client, deployed)
    assert "Paris" in whole.choices[0].message.content
    assert 0 < whole.usage.completion_tokens <= 24
    events = list(chat(client, deployed, stream=True, stream_options={"include_usage": True}))
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert events[-1].usage == whole.usage


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
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    ask = [{"role": "user", "content": ASKED_FOR_JSON}]
    answer = chat(client, deployed, messages=ask, response_format=form, max_completion_tokens=64)
    assert is_of_the_schema(answer.choices[0].message.content)


def test_embeddings(client, deployed):
    """By default this client asks for base64."""
    found = client.embeddings.create(model=deployed.model, input=["a cat", "a dog"])
    assert len(found.data) == 2 and len(found.data[0].embedding) == len(found.data[1].embedding) > 9


def test_responses(client, deployed):
    ask = {"model": deployed.model, "input": QUESTION, "max_output_tokens": 24, "temperature": 0}
    answer = client.responses.create(**ask)
    assert "Paris" in answer.output_text and 0 < answer.usage.output_tokens <= 24
    events = client.responses.create(**ask, stream=True)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == answer.output_text


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
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        chat(client, deployed, model="no-such-model")
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, deployed, messages=[{"role": "user", "content": TOO_LONG}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="maximum context length is") as refused:
        client.responses.create(model=deployed.model, input=TOO_LONG)
    assert refused.value.code == "context_length_exceeded"
