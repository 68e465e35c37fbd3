"""How the paced server's answers look in each API that it speaks: tokens, errors, ends."""

from __future__ import annotations

import json
from typing import Any

INPUT_TOKENS = 7


class Ollama:
    """/api/generate: a JSON object a line. `times`: nanoseconds that the end reports."""

    content_type = "application/x-ndjson"
    streams_unless_told = True

    def __init__(self, body: dict[str, Any]) -> None:
        self.head = {"model": body.get("model", "")}

    @staticmethod
    def tokens(body: dict[str, Any]) -> int | None:
        """How many are asked for."""
        return body.get("options", {}).get("num_predict")

    def token(self, text: str) -> bytes:
        """The line that brings a piece of text."""
        return _line(self.head | self.said(text) | {"done": False})

    def error(self, words: str) -> bytes:
        """The line that says what went wrong in the midst of an answer."""
        return _line({"error": words})

    def end(self, tokens: int | None, times: dict[str, int]) -> list[bytes]:
        """The last lines; without counts and times where `tokens` is None."""
        return [_line(self._end(tokens, times) | self.said(""))]

    def whole(self, text: str, tokens: int | None, times: dict[str, int]) -> dict[str, Any]:
        """The answer in one piece."""
        return self._end(tokens, times) | self.said(text)

    @staticmethod
    def said(text: str) -> dict[str, Any]:
        """A piece of text, as it stands in a line."""
        return {"response": text}

    def _end(self, tokens: int | None, times: dict[str, int]) -> dict[str, Any]:
        end = self.head | {"done": True, "done_reason": "stop"}
        if tokens is None:
            return end
        return end | times | {"prompt_eval_count": INPUT_TOKENS, "eval_count": tokens}


class OllamaChat(Ollama):
    """/api/chat: the same, the text in a message."""

    @staticmethod
    def said(text: str) -> dict[str, Any]:
        """A piece of text, as it stands in a line."""
        return {"message": {"role": "assistant", "content": text}}


class OpenAI:
    """/v1/chat/completions and /v1/completions: server-sent events."""

    content_type = "text/event-stream"
    streams_unless_told = False

    def __init__(self, body: dict[str, Any]) -> None:
        self.chat = "messages" in body
        self.usage = (body.get("stream_options") or {}).get("include_usage", False)
        kind = "chat.completion" if self.chat else "text_completion"
        self.head = {"id": "1", "created": 1, "model": body.get("model", ""), "object": kind}

    @staticmethod
    def tokens(body: dict[str, Any]) -> int | None:
        """How many are asked for."""
        return body.get("max_completion_tokens", body.get("max_tokens"))

    def token(self, text: str) -> bytes:
        """The event that brings a piece of text."""
        piece = {"delta": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return self._event([{"index": 0, "finish_reason": None} | piece])

    def error(self, words: str) -> bytes:
        """The event that says what went wrong in the midst of an answer."""
        return b"data: " + _line({"error": {"message": words}}) + b"\n"

    def end(self, tokens: int | None, times: dict[str, int]) -> list[bytes]:
        """The last events; the usage where it is asked for and `tokens` is not None."""
        piece: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        events = [self._event([{"index": 0, "finish_reason": "stop"} | piece])]
        if self.usage and tokens is not None:
            events.append(self._event([], usage=_usage(tokens)))
        return [*events, b"data: [DONE]\n\n"]

    def whole(self, text: str, tokens: int | None, times: dict[str, int]) -> dict[str, Any]:
        """The answer in one piece."""
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choices = [{"index": 0, "finish_reason": "stop"} | said]
        return self.head | {"choices": choices, "usage": _usage(tokens or 0)}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = self.head | {"choices": choices} | more
        if self.chat:
            chunk["object"] = "chat.completion.chunk"
        return b"data: " + _line(chunk) + b"\n"


def _usage(tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": INPUT_TOKENS + tokens,
    }


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


FORMATS: dict[str, type[Ollama] | type[OpenAI]] = {
    "/api/generate": Ollama,
    "/api/chat": OllamaChat,
    "/v1/completions": OpenAI,
    "/v1/chat/completions": OpenAI,
}
