"""The section of docs/api.md on clients that others have made: what each is given, what works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_INTRO = """## Clients that work

`tests/clients` tries these, unmodified, on a real Ollama behind the door (`make test-clients`). All
are refused with a wrong token. `CLIENT` is the deployment's address, `TOKEN` what is in its
`user.token`. A client that takes proxies from its environment needs the address in `no_proxy`.

| client | is given | works | else |
|---|---|---|---|"""
_OPENAI = "`CLIENT/v1`, TOKEN as API key"
_OLLAMA = "`CLIENT`, the header `Authorization: Bearer TOKEN`"


class Client(NamedTuple):
    """A program, and what tests/clients found; `version` is that of the lock."""

    package: str
    version: str
    given: str
    works: str
    differs: str = ""


CLIENTS = (
    Client("openai", "2.54.0", _OPENAI,
           "list, chat, stream, usage, tools, JSON schema, embeddings, responses, "
           "too long a prompt"),
    Client("anthropic", "2.14.0", "`CLIENT`, TOKEN as API key or as `auth_token`",
           "messages, stream, usage, tools, JSON schema, too long a prompt",
           "`count_tokens` is 404"),
    Client("ollama", "0.6.3", f"{_OLLAMA}, or `OLLAMA_API_KEY`",
           "list, show, chat, stream, usage, tools, JSON schema, embeddings",
           "managing models is refused; Ollama cuts too long a prompt unless `truncate` is false"),
    Client("langchain-openai", "1.7.4", _OPENAI,
           "chat, stream, usage, tools, JSON schema, embeddings, too long a prompt",
           "embeddings with `check_embedding_ctx_length=False`: else it sends OpenAI's tokens"),
    Client("langchain-ollama", "1.1.0", f"{_OLLAMA} by `client_kwargs`",
           "chat, stream, usage, tools, JSON schema, embeddings"),
    Client("llama-index-llms-openai-like", "0.8.1", _OPENAI, "chat, stream, embeddings",
           "with `is_chat_model=True`"),
    Client("llama-index-llms-ollama", "0.11.0", _OLLAMA, "chat, stream, embeddings"),
    Client("litellm", "1.110.2", f"{_OPENAI}, `openai/MODEL`",
           "chat, stream, usage, tools, JSON schema, embeddings, too long a prompt"),
    Client("aider-chat", "0.86.2", f"{_OPENAI} (`OPENAI_API_BASE`), `openai/MODEL`", "a question"),
)  # fmt: skip
_COMMAND_LINE = (
    "| `ollama` (its command line) | `OLLAMA_HOST=CLIENT/TOKEN`: it sends no key, but keeps a path "
    "| list, run | managing models is refused |"
)


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    yield _INTRO
    for client in CLIENTS:
        cells = (f"{client.package} {client.version}", client.given, client.works, client.differs)
        yield f"| {' | '.join(cells)} |"
    yield _COMMAND_LINE
