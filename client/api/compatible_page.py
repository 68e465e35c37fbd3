"""The section of docs/api.md on OpenAI's API: what is taken, what is refused, how errors look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel

from client.compatible.errors import ApiError
from client.compatible.http_server import MAX_BODY_BYTES
from client.compatible.pass_through import PASSED_ON
from client.compatible.translate.chat_bodies import ChatBody
from client.compatible.translate.completion_bodies import CompletionBody, EmbeddingBody
from engines.ollama import CHAT, EMBED, GENERATE, TAGS

_INTRO = f"""## OpenAI's API

A process of its own answers `/v1` by Ollama's own routes, not by Ollama's `/v1`, which cuts prompts
and drops what it does not know without a word. The address for OpenAI's clients is `CLIENT/v1`,
with the deployment's token as API key; orch prints the line that sets both for them. (With
`"security": "none"` there is no door, and no `/v1`.)

- A prompt that is longer than the context is refused with the code `context_length_exceeded` and
  both numbers; of its tokens the number is estimated by its bytes, as Ollama does not tell it. An
  answer ends with `length` where the context is full.
- Whoever goes before the end of an answer frees the engine at once.
- What is not supported is refused by name, as is every key that is not below; null counts as not
  given. A body has at most {MAX_BODY_BYTES:,} bytes.
- What is not given is the model's own (its Modelfile), not OpenAI's default.
- What a model thinks comes as `reasoning` beside `content`, as vLLM and Ollama have it.
- A failure in the midst of a stream is its last event, `data: {{"error": …}}`; no `[DONE]` follows,
  and the connection ends.
"""

_ROUTES: Mapping[str, str] = {
    "GET /v1/models": f"`{TAGS}`: the models as Ollama lists them",
    "GET /v1/models/ID": f"`{TAGS}`: one of them, under any of its names",
    "POST /v1/chat/completions": f"`{CHAT}`, streamed or not",
    "POST /v1/completions": f"`{GENERATE}`, streamed or not",
    "POST /v1/embeddings": f"`{EMBED}`",
    ", ".join(PASSED_ON): "Ollama's own routes of that name, passed on unread",
}
_BODIES: Mapping[str, type[BaseModel]] = {
    "POST /v1/chat/completions": ChatBody,
    "POST /v1/completions": CompletionBody,
    "POST /v1/embeddings": EmbeddingBody,
}
_ERRORS = """### Errors of /v1

All are `{"error": {"message", "type", "param", "code"}}`; `param` is the key that is wrong, as
`messages[0].content`. Codes of 400 are, besides those below, `unknown_parameter`, `invalid_type`,
`invalid_value`, `missing_required_parameter` and `invalid_json`; `code` is null if Ollama refuses a
request for a reason of its own. 429 and 503 have `Retry-After`; 429 with the code
`rate_limit_exceeded` is the door's: the token has reached a limit of its own (docs/security.md).
"""


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    yield from (_INTRO, "| route | by |", "|---|---|")
    yield from (f"| {route} | {by} |" for route, by in _ROUTES.items())
    for route, kind in _BODIES.items():
        yield from ("", f"### {route}", "", "| key of the body | meaning |", "|---|---|")
        yield from _keys(kind)
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
