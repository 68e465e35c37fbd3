"""Answers of a chat as OpenAI's API has them, from what Ollama's /api/chat says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from client.compatible.translate.chunks import Chunks, finish_reason, heading
from client.compatible.translate.native import calls_of, checked, objects_of, texts_of, usage_of
from contracts.json_object import JsonObject
from engines.json_values import part_of

_PREFIX = "chatcmpl"
#: What is before and after the text in a line that brings nothing else.
BEFORE, AFTER = b'"message":{"role":"assistant","content":"', b'"},"done":false}'


class ChatEvents(Chunks):
    """A chat, streamed: `delta` has what each event adds to the message."""

    before, after, thinks = BEFORE, AFTER, True
    text, text_ends = b'"delta":{"content":"', b'"}'
    first_text = b'"delta":{"role":"assistant","content":"'
    thought = b'"delta":{"reasoning":"'
    first_thought = first_text + b'","reasoning":"'

    def __init__(self, model: str, usage: bool) -> None:
        super().__init__(heading("chat.completion.chunk", _PREFIX, model), usage)
        self._calls = 0

    def _choice(self, line: JsonObject) -> JsonObject:
        message = part_of(line, "message")
        delta = {name: text for name, text in _texts(message).items() if text}
        calls = list(_calls(message, self._calls))
        if calls:
            delta["tool_calls"] = calls
            self._calls += len(calls)
        logprobs = _log_probabilities(line)
        if not delta and logprobs is None:
            return {}
        found: JsonObject = {"delta": {**self._role(), **delta}}
        return found if logprobs is None else {**found, "logprobs": logprobs}

    def _last_choice(self, line: JsonObject) -> JsonObject:
        why = "tool_calls" if self._calls else finish_reason(line)
        return {"delta": self._role(), "finish_reason": why}

    def _role(self) -> JsonObject:
        """It comes with the first event."""
        return {"role": "assistant", "content": ""} if self._first else {}


def whole_chat(answer: JsonObject, model: str) -> JsonObject:
    """Return an answer that was not streamed. Raises EngineFailed."""
    message = part_of(checked(answer), "message")
    calls = [_without_index(call) for call in _calls(message, 0)]
    texts = _texts(message)
    said = {"role": "assistant", **texts, "refusal": None}
    if not texts["content"] and calls:
        said["content"] = None
    if not texts["reasoning"]:
        del said["reasoning"]
    choice = {
        "index": 0,
        "message": {**said, "tool_calls": calls} if calls else said,
        "logprobs": _log_probabilities(answer),
        "finish_reason": "tool_calls" if calls else finish_reason(answer),
    }
    head = heading("chat.completion", _PREFIX, model)
    return {**head, "choices": [choice], "usage": usage_of(answer)}


def _texts(message: JsonObject) -> JsonObject:
    thought, text = texts_of(message)
    return {"content": text, "reasoning": thought}


def _calls(message: JsonObject, before: int) -> Iterator[JsonObject]:
    """Calls of tools, numbered from `before` on."""
    for index, call in enumerate(calls_of(message), before):
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        function = {"name": call.name, "arguments": arguments}
        yield {"index": index, "id": call.id, "type": "function", "function": function}


def _without_index(call: JsonObject) -> JsonObject:
    return {key: value for key, value in call.items() if key != "index"}


def _log_probabilities(line: JsonObject) -> JsonObject | None:
    tokens = token_probabilities(line)
    return {"content": tokens, "refusal": None} if tokens else None


def token_probabilities(line: JsonObject) -> list[dict[str, Any]]:
    """Return the log probabilities of the tokens of a line or an answer; none if it has none."""
    return [
        _token(one) | {"top_logprobs": [_token(other) for other in objects_of(one, "top_logprobs")]}
        for one in objects_of(line, "logprobs")
    ]


def _token(one: JsonObject) -> dict[str, Any]:
    return {name: one.get(name) for name in ("token", "logprob", "bytes")}
