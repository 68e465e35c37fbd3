"""What stands on OpenAI's and Ollama's clients: langchain, llama-index, litellm."""

import litellm
import openai
import pytest
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike
from ollama import ResponseError
from pydantic import BaseModel
from wanted import ASKED_FOR_JSON, OPENAI_TOOL, QUESTION, TOO_LONG, get_weather


class City(BaseModel):
    city: str


# --- langchain -----------------------------------------------------------------------------------


def langchain_openai(deployed, token=None):
    return ChatOpenAI(base_url=f"{deployed.url}/v1", api_key=token or deployed.token, temperature=0,
                      model=deployed.model, max_completion_tokens=60, max_retries=0)  # fmt: skip


def langchain_ollama(deployed, token=None):
    headers = {"Authorization": f"Bearer {token or deployed.token}"}
    return ChatOllama(base_url=deployed.url, client_kwargs={"headers": headers}, temperature=0,
                      model=deployed.model, num_predict=60)  # fmt: skip


both = pytest.mark.parametrize("chat_of", [langchain_openai, langchain_ollama])


@both
def test_langchain_chats_streams_and_counts(deployed, chat_of):
    model = chat_of(deployed)
    whole = model.invoke(QUESTION)
    assert "Paris" in whole.content and 0 < whole.usage_metadata["output_tokens"] <= 60
    assert "".join(piece.content for piece in model.stream(QUESTION)) == whole.content


@both
def test_langchain_calls_tools(deployed, chat_of):
    (call,) = chat_of(deployed).bind_tools([get_weather]).invoke(QUESTION).tool_calls
    assert call["name"] == "get_weather"


@both
def test_langchain_keeps_a_schema(deployed, chat_of):
    model = chat_of(deployed).with_structured_output(City, method="json_schema")
    assert isinstance(model.invoke(ASKED_FOR_JSON), City)


@pytest.mark.parametrize(
    ("chat_of", "error"),
    [(langchain_openai, openai.AuthenticationError), (langchain_ollama, ResponseError)],
)
def test_langchain_is_refused_with_a_wrong_token(deployed, chat_of, error):
    with pytest.raises(error):
        chat_of(deployed, "wrong").invoke(QUESTION)


def test_langchain_learns_that_a_prompt_is_too_long(deployed):
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        langchain_openai(deployed).invoke(TOO_LONG)


def test_langchain_embeds_by_ollamas_api(deployed):
    headers = {"Authorization": f"Bearer {deployed.token}"}
    model = OllamaEmbeddings(
        base_url=deployed.url, model=deployed.model, client_kwargs={"headers": headers}
    )
    assert len(model.embed_documents(["a cat", "a dog"])) == 2


def test_langchain_embeds_texts_by_openais_api(deployed):
    """With `check_embedding_ctx_length` it would send tokens of OpenAI's own models."""
    given = {"base_url": f"{deployed.url}/v1", "api_key": deployed.token, "model": deployed.model}
    model = OpenAIEmbeddings(**given, check_embedding_ctx_length=False)
    assert len(model.embed_documents(["a cat", "a dog"])) == 2


# --- llama-index ---------------------------------------------------------------------------------


def index_openai(deployed, token=None):
    return OpenAILike(api_base=f"{deployed.url}/v1", api_key=token or deployed.token,
                      model=deployed.model, is_chat_model=True, temperature=0, max_tokens=60,
                      max_retries=0)  # fmt: skip


def index_ollama(deployed, token=None):
    headers = {"Authorization": f"Bearer {token or deployed.token}"}
    return Ollama(base_url=deployed.url, model=deployed.model, headers=headers, temperature=0,
                  context_window=4096, additional_kwargs={"num_predict": 60})  # fmt: skip


@pytest.mark.parametrize("chat_of", [index_openai, index_ollama])
def test_llama_index_chats_and_streams(deployed, chat_of):
    model, ask = chat_of(deployed), [ChatMessage(role="user", content=QUESTION)]
    whole = model.chat(ask).message.content
    assert "Paris" in whole
    assert "".join(piece.delta or "" for piece in model.stream_chat(ask)) == whole


@pytest.mark.parametrize(
    ("chat_of", "error"),
    [(index_openai, openai.AuthenticationError), (index_ollama, ResponseError)],
)
def test_llama_index_is_refused_with_a_wrong_token(deployed, chat_of, error):
    with pytest.raises(error):
        chat_of(deployed, "wrong").chat([ChatMessage(role="user", content=QUESTION)])


def test_llama_index_embeds(deployed):
    by_openai = OpenAILikeEmbedding(
        model_name=deployed.model, api_base=f"{deployed.url}/v1", api_key=deployed.token
    )
    headers = {"Authorization": f"Bearer {deployed.token}"}
    by_ollama = OllamaEmbedding(
        model_name=deployed.model, base_url=deployed.url, client_kwargs={"headers": headers}
    )
    assert len(by_openai.get_text_embedding("a cat")) == len(by_ollama.get_text_embedding("a cat"))


# --- litellm -------------------------------------------------------------------------------------


@pytest.fixture
def given(deployed):
    return {"api_base": f"{deployed.url}/v1", "api_key": deployed.token}


def completion(deployed, given, **more):
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 60, **given, **more}
    return litellm.completion(model=f"openai/{deployed.model}", **body)


def test_litellm_chats_streams_and_counts(deployed, given):
    whole = completion(deployed, given)
    assert "Paris" in whole.choices[0].message.content and whole.usage.completion_tokens > 0
    pieces = completion(deployed, given, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content


def test_litellm_calls_tools_and_keeps_a_schema(deployed, given):
    (call,) = completion(deployed, given, tools=[OPENAI_TOOL]).choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    answer = completion(deployed, given, response_format=City)
    assert City.model_validate_json(answer.choices[0].message.content)


def test_litellm_embeds(deployed, given):
    found = litellm.embedding(model=f"openai/{deployed.model}", input=["a cat", "a dog"], **given)
    assert len(found.data) == 2


def test_litellm_knows_the_refusals(deployed, given):
    with pytest.raises(litellm.AuthenticationError):
        completion(deployed, {**given, "api_key": "wrong"})
    with pytest.raises(litellm.ContextWindowExceededError):
        completion(deployed, given, messages=[{"role": "user", "content": TOO_LONG}])
