"""The section of docs/api.md on clients that others have made: what each is given, what works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_INTRO = """## Clients that work

`tests/clients` tries these, unmodified, on a real Ollama behind the door, and those of OpenAI's and
Anthropic's APIs on llama.cpp's server as well (`make test-clients`). All are refused with a wrong
token. `CLIENT` is the deployment's address, `TOKEN` what its `user.token` has. A client that takes
proxies from its environment needs the address in `no_proxy`. Tools work with llama.cpp if the chat
template of the model's file knows them, which has not been tried; if it does not, the engine passes
over them without a word.

| client | is given | works with Ollama | else | works with llama.cpp |
|---|---|---|---|---|"""
_OPENAI = "`CLIENT/v1`, TOKEN as API key"
_OLLAMA = "`CLIENT`, the header `Authorization: Bearer TOKEN`"

_NO_API = "no: it does not speak Ollama's API"


class Client(NamedTuple):
    """A program, and what tests/clients found; `version` is that of the lock."""

    package: str
    version: str
    given: str
    works: str
    differs: str = ""
    llamacpp: str = ""


CLIENTS = (
    Client("openai", "2.54.0", _OPENAI,
           "list, chat, stream, usage, tools, JSON schema, embeddings, responses, "
           "too long a prompt", "",
           "list, chat, stream, usage, JSON schema, responses, too long a prompt; "
           "embeddings are 501"),
    Client("anthropic", "2.14.0", "`CLIENT`, TOKEN as API key or as `auth_token`",
           "messages, stream, usage, tools, JSON schema, too long a prompt",
           "`count_tokens` is 404",
           "messages, stream, usage, `count_tokens`, too long a prompt"),
    Client("ollama", "0.6.3", f"{_OLLAMA}, or `OLLAMA_API_KEY`",
           "list, show, chat, stream, usage, tools, JSON schema, embeddings",
           "managing models is refused; Ollama cuts too long a prompt unless `truncate` is false",
           _NO_API),
    Client("langchain-openai", "1.7.4", _OPENAI,
           "chat, stream, usage, tools, JSON schema, embeddings, too long a prompt",
           "embeddings with `check_embedding_ctx_length=False`: else it sends OpenAI's tokens",
           "chat, stream, usage, JSON schema"),
    Client("langchain-ollama", "1.1.0", f"{_OLLAMA} by `client_kwargs`",
           "chat, stream, usage, tools, JSON schema, embeddings", "", _NO_API),
    Client("llama-index-llms-openai-like", "0.8.1", _OPENAI, "chat, stream, embeddings",
           "with `is_chat_model=True`", "chat, stream"),
    Client("llama-index-llms-ollama", "0.11.0", _OLLAMA, "chat, stream, embeddings", "",
           _NO_API),
    Client("litellm", "1.110.2", f"{_OPENAI}, `openai/MODEL`",
           "chat, stream, usage, tools, JSON schema, embeddings, too long a prompt", "",
           "chat, stream, usage, too long a prompt"),
    Client("aider-chat", "0.86.2", f"{_OPENAI} (`OPENAI_API_BASE`), `openai/MODEL`", "a question",
           "", "not tried"),
)  # fmt: skip
_COMMAND_LINE = (
    "| `ollama` (its command line) | `OLLAMA_HOST=CLIENT/TOKEN`: it sends no key, but keeps a path "
    "| list, run | managing models is refused | no |"
)


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    yield _INTRO
    for client in CLIENTS:
        name = f"{client.package} {client.version}"
        cells = (name, client.given, client.works, client.differs, client.llamacpp)
        yield f"| {' | '.join(cells)} |"
    yield _COMMAND_LINE
