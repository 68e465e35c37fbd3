"""The same clients on a deployment whose engine is llama.cpp's server, which speaks both APIs."""

from types import SimpleNamespace

import anthropic
import litellm
import openai
import pytest
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai_asked import (
    ASK,
    chat,
    check_json_schema,
    check_list_chat_and_stream,
    check_refusals,
    check_responses,
    client_of,
)
from place import SMALL
from wanted import ASKED_FOR_JSON, CITY, OPENAI_TOOL, QUESTION, TOO_LONG


@pytest.fixture(scope="module")
def deployed(place):
    recipe = place.recipe(
        "llamacpp.json", engine="llama.cpp", model=str(SMALL), num_parallel=2, time="30:00",
        sampling={"temperature": 0},
    )  # fmt: skip
    record = place.deploy(recipe)
    token = place.token_file(record).with_name("user.token").read_text().strip()
    yield SimpleNamespace(url=record["endpoints"]["client"], token=token, model=record["model"])
    assert place.orch("--stop", record["id"]).returncode == 0


@pytest.fixture(scope="module")
def client(deployed):
    return client_of(deployed)


@pytest.fixture(scope="module")
def messages(deployed):
    it = anthropic.Anthropic(base_url=deployed.url, api_key=deployed.token, max_retries=0)
    return it.messages


# --- openai --------------------------------------------------------------------------------------


def test_list_chat_stream_and_usage(client, deployed):
    usage, streamed = check_list_chat_and_stream(client, deployed)
    assert streamed.completion_tokens == usage.completion_tokens


def test_json_schema(client, deployed):
    check_json_schema(client, deployed)


def test_tools_that_the_models_template_does_not_know_are_passed_over(client, deployed):
    """By the engine, which says no word of it."""
    without = chat(client, deployed)
    answer = chat(client, deployed, tools=[OPENAI_TOOL], tool_choice="required")
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage.prompt_tokens == without.usage.prompt_tokens


def test_responses(client, deployed):
    check_responses(client, deployed)


def test_refusals(client, deployed):
    check_refusals(client, deployed)
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model=deployed.model, input=["a cat"])
    assert (refused.value.status_code, refused.value.code) == (501, "not_offered")


# --- anthropic -----------------------------------------------------------------------------------


def test_messages(messages, deployed):
    ask = {"model": deployed.model, "messages": ASK, "max_tokens": 24}
    whole = messages.create(**ask)
    (block,) = whole.content
    assert "Paris" in block.text and 0 < whole.usage.output_tokens <= 24
    with messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == block.text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens
    assert messages.count_tokens(model=deployed.model, messages=ASK).input_tokens > 5


def test_refusals_of_messages(messages, deployed):
    ask = {"model": deployed.model, "messages": ASK, "max_tokens": 24}
    wrong = anthropic.Anthropic(base_url=deployed.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        wrong.messages.create(**ask)
    with pytest.raises(anthropic.NotFoundError):
        messages.create(**{**ask, "model": "no-such-model"})
    with pytest.raises(anthropic.BadRequestError):
        messages.create(**{**ask, "messages": [{"role": "user", "content": TOO_LONG}]})


# --- frameworks ----------------------------------------------------------------------------------


def test_langchain(deployed):
    model = ChatOpenAI(base_url=f"{deployed.url}/v1", api_key=deployed.token, temperature=0,
                       model=deployed.model, max_completion_tokens=60, max_retries=0)  # fmt: skip
    whole = model.invoke(QUESTION)
    assert "Paris" in whole.content and 0 < whole.usage_metadata["output_tokens"] <= 60
    assert "".join(piece.content for piece in model.stream(QUESTION)) == whole.content
    city = model.with_structured_output(CITY | {"title": "City"}, method="json_schema")
    assert list(city.invoke(ASKED_FOR_JSON)) == ["city"]


def test_llama_index(deployed):
    model = OpenAILike(api_base=f"{deployed.url}/v1", api_key=deployed.token, temperature=0,
                       model=deployed.model, is_chat_model=True, max_tokens=60,
                       max_retries=0)  # fmt: skip
    ask = [ChatMessage(role="user", content=QUESTION)]
    whole = model.chat(ask).message.content
    assert "Paris" in whole
    assert "".join(piece.delta or "" for piece in model.stream_chat(ask)) == whole


def test_litellm(deployed):
    body = {"model": f"openai/{deployed.model}", "messages": ASK, "max_tokens": 60,
            "api_base": f"{deployed.url}/v1", "api_key": deployed.token}  # fmt: skip
    whole = litellm.completion(**body)
    text = whole.choices[0].message.content
    assert "Paris" in text and whole.usage.completion_tokens > 0
    pieces = litellm.completion(**body, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == text
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**{**body, "messages": [{"role": "user", "content": TOO_LONG}]})
