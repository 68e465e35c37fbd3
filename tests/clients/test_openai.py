"""The package openai."""

import json

import openai
import pytest
from events import until
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


# --- batches ---


def begin(client, lines):
    """A batch of these lines."""
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def line(deployed, number, tokens):
    body = {"model": deployed.model, "max_completion_tokens": tokens,
            "messages": [{"role": "user", "content": f"Say {number}."}]}  # fmt: skip
    return {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions",
            "body": body}  # fmt: skip


def over(client, batch):
    def found():
        now = client.batches.retrieve(batch.id)
        return now if now.status in ("completed", "failed", "cancelled") else None

    return until(found)


def test_a_batch(client, deployed):
    begun = begin(client, [line(deployed, number, 4) for number in range(20)])
    batch = over(client, begun)
    assert batch.status == "completed" and batch.request_counts.completed == 20
    answers = [json.loads(text) for text in client.files.content(batch.output_file_id).iter_lines()]
    assert sorted(one["custom_id"] for one in answers) == sorted(f"c{n}" for n in range(20))
    for one in answers:
        assert one["response"]["status_code"] == 200 and one["error"] is None
        assert one["response"]["body"]["usage"]["completion_tokens"] <= 4
    assert batch.usage.output_tokens > 0
    assert begun.id in [one.id for one in client.batches.list(limit=5)]
    assert client.files.delete(batch.output_file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(batch.output_file_id)


def test_a_batch_with_a_broken_line(client, deployed):
    wrong = {**line(deployed, 1, 4), "url": "/v1/images/generations"}
    batch = over(client, begin(client, [line(deployed, 0, 4), wrong]))
    assert batch.status == "failed" and batch.request_counts.completed == 0
    (error,) = batch.errors.data
    assert error.line == 2 and "/v1/images/generations" in error.message


def test_a_batch_that_is_cancelled(client, deployed):
    batch = begin(client, [line(deployed, number, 400) for number in range(50)])
    until(lambda: client.batches.retrieve(batch.id).status == "in_progress")
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = over(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at - batch.cancelling_at <= 2
