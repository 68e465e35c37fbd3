"""Completions as OpenAI's API has them, by Ollama's /api/generate."""

from __future__ import annotations

from itertools import accumulate

from client.compatible.compact import compact
from client.compatible.translate.bodies import WHOLE
from client.compatible.translate.chat_answers import token_probabilities
from client.compatible.translate.chunks import Chunks, finish_reason, heading
from client.compatible.translate.completion_bodies import CompletionBody
from client.compatible.translate.native import checked, usage_of
from contracts.json_object import JsonObject
from engines.json_values import text_of

_PREFIX, _KIND = "cmpl", "text_completion"
#: OpenAI's own limit, if none is given.
_MAX_TOKENS = 16


def native_completion(body: CompletionBody, model: str) -> bytes:
    """Return the body for /api/generate. Only a text with a suffix goes through the template, which
    has the signs of the gap."""
    filling = {"suffix": body.suffix} if body.suffix else {"raw": True}
    tops = {} if body.logprobs is None else {"logprobs": True, "top_logprobs": body.logprobs}
    asked = {
        "model": model,
        "prompt": body.prompt,
        "stream": bool(body.stream),
        **WHOLE,
        "think": False,
        **filling,
        **tops,
        "options": body.options(body.max_tokens or _MAX_TOKENS),
    }
    return compact(asked)


class CompletionEvents(Chunks):
    """A completion, streamed: each event has a piece of its text."""

    before, after = b'"response":"', b'","done":false}'
    text = first_text = b'"text":"'
    text_ends = b'","logprobs":null'

    def __init__(self, model: str, usage: bool) -> None:
        super().__init__(heading(_KIND, _PREFIX, model), usage)
        self._length = 0

    def _choice(self, line: JsonObject) -> JsonObject:
        text, logprobs = text_of(line, "response") or "", _old_form(line, self._length)
        self._length += len(text)
        return {"text": text, "logprobs": logprobs} if text or logprobs else {}

    def _last_choice(self, line: JsonObject) -> JsonObject:
        return {"text": "", "logprobs": None, "finish_reason": finish_reason(line)}


def whole_completion(answer: JsonObject, model: str) -> JsonObject:
    """Return an answer that was not streamed. Raises EngineFailed."""
    choice = {
        "text": text_of(checked(answer), "response") or "",
        "index": 0,
        "logprobs": _old_form(answer, 0),
        "finish_reason": finish_reason(answer),
    }
    head = heading(_KIND, _PREFIX, model)
    return {**head, "choices": [choice], "usage": usage_of(answer)}


def _old_form(line: JsonObject, offset: int) -> JsonObject | None:
    """Log probabilities as completions have them: lists side by side."""
    tokens = token_probabilities(line)
    if not tokens:
        return None
    lengths = [len(one["token"]) for one in tokens]
    return {
        "tokens": [one["token"] for one in tokens],
        "token_logprobs": [one["logprob"] for one in tokens],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in one["top_logprobs"]} for one in tokens
        ],
        "text_offset": [offset + before for before in accumulate([0, *lengths[:-1]])],
    }
