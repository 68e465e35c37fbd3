"""The section of docs/api.md on engines other than Ollama: what is answered with which."""

from __future__ import annotations

from collections.abc import Iterator

from client.compatible.errors import NotOffered
from client.errors import LoadsModel, PromptTooLong
from engines.servers.deployable import DEPLOYED

_INTRO = """## With another engine than Ollama

A deployment's engine is what its recipe says (`job.service.engine`). All keys and types of errors
are the same with each, also those that begin with `ollama`: they mean the engine, whichever it is.

| route | Ollama | llama.cpp, vLLM |
|---|---|---|"""


def _options(engine: str) -> str:
    return ", ".join(f"`{name}`" for name in DEPLOYED[engine].query_options)


_ROWS = (
    ("`POST /query`, streamed or not", "its `/api/generate`",
     "its `/v1/chat/completions`, given in Ollama's keys; [not all](#query-with-llamacpp-or-vllm)"),
    ("`GET /health`", "version, model, digest, place",
     "version and model as far as it says; "
     f"503 `{LoadsModel.kind}` while it loads the model"),
    ("`POST /benchmark`", "`api`: `ollama` (default) or `openai`", "`api`: `openai`"),
    ("`GET /metrics`, tokens by name, queues", "yes", "yes"),
    ("`POST /search`, `/points`, `retrieval`", "yes", "no: its recipe is refused"),
    ("`/api/*` (Ollama's own)", "yes", "404, with a sentence"),
    ("`GET /v1/models`, `/v1/models/ID`", "yes", "yes"),
    ("`POST /v1/chat/completions`, `/v1/completions`", "by Ollama's own routes",
     "passed on, with all that it knows (`n`, `logit_bias`, …)"),
    ("`POST /v1/responses`, `/v1/messages`", "by Ollama's own routes", "passed on"),
    ("`POST /v1/messages/count_tokens`", "404", "passed on"),
    ("`POST /v1/embeddings`", "yes", f"{NotOffered.status} `{NotOffered.code}`"),
)  # fmt: skip
_REST = f"""
### /query with llama.cpp or vLLM

- Its answer has `model`, `created_at`, `response` (and `thinking`), `done`, `done_reason`,
  `prompt_eval_count`, `eval_count`, beside [ours](#answer), and with llama.cpp of the times
  `prompt_eval_duration` and `eval_duration`, the first of the tokens that were not read before.
  `total_duration`, `load_duration` and `context` are absent: they are not told.
- Of `options` llama.cpp takes {_options("llama.cpp")}, and vLLM {_options("vllm")}. Others, as
  `num_ctx`, are refused with 400 by name, since the server has them from its start on; so is
  `keep_alive`.
- A prompt that is longer than the context is 400 `{PromptTooLong.kind}`, with both numbers as the
  engine has counted them (vLLM stops counting at one too many, and far too long a text it does not
  count at all: that one's number is estimated). Nothing is cut.

### /v1 with llama.cpp or vLLM

What is asked goes through as it is, and so does its answer; what the engine does not know, it may
pass over. Some things are seen to on the way:

- `model` must be one that `/v1/models` lists (404 `model_not_found`), or be left out: the engine
  alone would answer with its own model, whatever it is called.
- Too long a prompt is 400 `context_length_exceeded` with both numbers, and all other errors have
  the shape, statuses and codes [below](#errors-of-v1); a route that the engine does not have is
  {NotOffered.status} `{NotOffered.code}`.
- A stream that breaks off ends with an error.
- A chat or a completion is asked of it as a stream, and put together for who wants it whole: else
  llama.cpp's server would not see that he has gone, and would write the answer to its end, as it
  does of `/v1/responses` and `/v1/messages` that are not streamed.
- Tokens are counted by the name of who asked, by the `usage` of the answer. With `n` llama.cpp
  counts those of one choice."""


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    yield _INTRO
    yield from (f"| {' | '.join(row)} |" for row in _ROWS)
    yield _REST
