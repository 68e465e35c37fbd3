"""The section of docs/api.md on the APIs of OpenAI and Anthropic: what is taken, what is refused,
how errors look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel

from client.compatible.errors import MESSAGES, ApiError
from client.compatible.http_server import MAX_BODY_BYTES
from client.compatible.translate.chat_bodies import ChatBody
from client.compatible.translate.completion_bodies import CompletionBody, EmbeddingBody
from client.compatible.translate.messages.bodies import MessagesBody
from client.compatible.translate.responses.bodies import ResponsesBody
from engines.ollama import CHAT, EMBED, GENERATE, TAGS

_INTRO = f"""## OpenAI's API, and Anthropic's

A process of its own answers `/v1`: in front of Ollama by Ollama's own routes, as this section says,
not by Ollama's `/v1`, which cuts prompts and drops what it does not know without a word; what
another engine speaks itself, it [passes on](#v1-with-llamacpp-or-vllm). The address for OpenAI's
clients is `CLIENT/v1`, with the deployment's token as API key; orch prints the line that sets both
for them. For Anthropic's it is `CLIENT`.

- A prompt that is longer than the context is refused with 400, the code `context_length_exceeded`
  and both numbers; of its tokens the number is estimated by its bytes, as Ollama does not tell it.
  An answer ends with `length` where the context is full.
- Whoever goes before the end of an answer frees the engine, as at the other routes (above).
- What is not supported is refused by name, as is every key that is not below; null counts as not
  given. A body has at most {MAX_BODY_BYTES:,} bytes.
- What is not given is the model's own (its Modelfile), not OpenAI's default.
- What a model thinks comes as `reasoning` beside `content` of a chat, as vLLM and Ollama have it,
  as an item `reasoning` of a response, and as a block `thinking` of a message, with an empty
  `signature`.
- A failure in the midst of a stream is its last event, and the connection ends: `data: {{"error":
  …}}` without `[DONE]`, `response.failed`, or Anthropic's `error`.
- Nothing is kept from one request to the next.
"""

_ROUTES: Mapping[str, str] = {
    "GET /v1/models": f"`{TAGS}`: the models as Ollama lists them",
    "GET /v1/models/ID": f"`{TAGS}`: one of them, under any of its names",
    "POST /v1/chat/completions": f"`{CHAT}`, streamed or not",
    "POST /v1/completions": f"`{GENERATE}`, streamed or not",
    "POST /v1/embeddings": f"`{EMBED}`",
    "POST /v1/responses": f"`{CHAT}`, streamed or not",
    f"POST {MESSAGES}": f"`{CHAT}`, streamed or not: Anthropic's messages",
}
_BODIES: Mapping[str, type[BaseModel]] = {
    "POST /v1/chat/completions": ChatBody,
    "POST /v1/completions": CompletionBody,
    "POST /v1/embeddings": EmbeddingBody,
    "POST /v1/responses": ResponsesBody,
    f"POST {MESSAGES}": MessagesBody,
}
#: What is to be known of an answer, by its route.
_ANSWERS: Mapping[str, str] = {
    "POST /v1/responses": """
How many tokens of `usage` were thought, or had been read before, is 0: Ollama does not say it. An
answer that is cut is `incomplete` by `max_output_tokens`, also where the context is full.""",
    f"POST {MESSAGES}": """
`stop_reason` is `end_turn`, `tool_use`, `max_tokens`, or `model_context_window_exceeded` where the
context is full. In a stream `input_tokens` come with `message_delta`, as they are not known before;
`message_start` has 0. `count_tokens` is 404: Ollama counts a prompt's tokens as it answers.""",
}
_ERRORS = """### Errors of /v1

All but those of Anthropic's API are `{"error": {"message", "type", "param", "code"}}`; `param` is
the key that is wrong, as `messages[0].content`. Codes of 400 are, besides those below,
`unknown_parameter`, `invalid_type`, `invalid_value`, `missing_required_parameter` and
`invalid_json`; `code` is null if Ollama refuses a request for a reason of its own. 429 and 503 have
`Retry-After`; 429 with the code `rate_limit_exceeded` is the door's: the token has reached a limit
of its own (docs/security.md).

Errors of `/v1/messages` are `{"type": "error", "error": {"type", "message"}}`, with the same status
and sentence, which names the key, and the type by the status: `invalid_request_error`,
`authentication_error` (401), `not_found_error` (404), `request_too_large` (413), `rate_limit_error`
(429), `overloaded_error` (503), `timeout_error` (504), `api_error`.
"""


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    yield from (_INTRO, "| route | by |", "|---|---|")
    yield from (f"| {route} | {by} |" for route, by in _ROUTES.items())
    for route, kind in _BODIES.items():
        yield from ("", f"### {route}", "", "| key of the body | meaning |", "|---|---|")
        yield from _keys(kind)
        if route in _ANSWERS:
            yield _ANSWERS[route]
    yield from ("", _ERRORS, "| status | code | meaning |", "|---|---|---|")
    yield from _errors(ApiError.__subclasses__())


def _keys(kind: type[BaseModel]) -> Iterator[str]:
    """What is needed first."""
    fields = kind.model_fields.items()
    for name, field in sorted(fields, key=lambda item: not item[1].is_required()):
        required = ", **required**" * field.is_required()
        yield f"| `{field.alias or name}`{required} | {field.description} |"


def _errors(kinds: Iterable[type[ApiError]]) -> Iterator[str]:
    for kind in kinds:
        if kind.code is not None:
            yield f"| {_STATUSES.get(kind.code, kind.status)} | `{kind.code}` | {kind.__doc__} |"
        yield from _errors(kind.__subclasses__())


#: Of errors that have more than one.
_STATUSES = {"queue_full": "429, 503"}
