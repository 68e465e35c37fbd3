"""What the package openai is asked of each engine in the same way."""

import openai
import pytest
from wanted import ASKED_FOR_JSON, CITY, QUESTION, TOO_LONG, is_of_the_schema

ASK = [{"role": "user", "content": QUESTION}]


def client_of(deployed):
    return openai.OpenAI(base_url=f"{deployed.url}/v1", api_key=deployed.token, max_retries=0)


def chat(client, deployed, **more):
    body = {"model": deployed.model, "messages": ASK, "max_completion_tokens": 24, **more}
    return client.chat.completions.create(**body)


def check_list_chat_and_stream(client, deployed):
    """Return the counts of the answer, whole and streamed."""
    assert [model.id for model in client.models.list()] == [deployed.model]
    whole = chat(client, deployed)
    assert "Paris" in whole.choices[0].message.content
    assert 0 < whole.usage.completion_tokens <= 24
    events = list(chat(client, deployed, stream=True, stream_options={"include_usage": True}))
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    return whole.usage, events[-1].usage


def check_json_schema(client, deployed):
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    ask = [{"role": "user", "content": ASKED_FOR_JSON}]
    answer = chat(client, deployed, messages=ask, response_format=form, max_completion_tokens=64)
    assert is_of_the_schema(answer.choices[0].message.content)


def check_responses(client, deployed):
    ask = {"model": deployed.model, "input": QUESTION, "max_output_tokens": 24, "temperature": 0}
    answer = client.responses.create(**ask)
    assert "Paris" in answer.output_text and 0 < answer.usage.output_tokens <= 24
    events = client.responses.create(**ask, stream=True)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == answer.output_text


def check_refusals(client, deployed):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        chat(client, deployed, model="no-such-model")
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, deployed, messages=[{"role": "user", "content": TOO_LONG}])
    assert refused.value.code == "context_length_exceeded"
