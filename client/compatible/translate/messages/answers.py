"""Answers of a chat as Anthropic's messages have them."""

from __future__ import annotations

from client.compatible.compact import compact
from client.compatible.errors import ApiError
from client.compatible.translate.blocks import BlockEvents, Kind
from client.compatible.translate.events import named, new_id
from client.compatible.translate.messages.bodies import MessagesBody
from client.compatible.translate.native import (
    Call,
    calls_of,
    checked,
    is_cut,
    read_and_written,
    texts_of,
)
from contracts.json_object import JsonObject
from engines.json_values import part_of

_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"%b_delta","%b":"'
)
_ENDS = b'"}}\n\n'


class MessageEvents(BlockEvents):
    """A message, streamed."""

    def __init__(self, body: MessagesBody, model: str) -> None:
        super().__init__()
        self._message = _heading(model)
        self._max_tokens = body.max_tokens
        self._index = -1  # of the block
        self._delta = b""  # what its pieces begin with

    def failed(self, error: ApiError) -> bytes:
        """Return the error as the last event."""
        return named("error", error.as_anthropic())

    def _start(self) -> bytes:
        """How many tokens the prompt has is not known before the end."""
        ends = {"stop_reason": None, "stop_sequence": None, "usage": _usage(0, 0)}
        return _event("message_start", message={**self._message, "content": [], **ends})

    def _opened(self, kind: Kind) -> bytes:
        self._index += 1
        name = kind.value.encode()
        self._delta = _DELTA % (self._index, name, name)
        return self._begin(_thought("") if kind is Kind.THOUGHT else _text(""))

    def _piece(self, raw: bytes) -> bytes:
        return self._delta + raw + _ENDS

    def _closed(self, kind: Kind, cut: bool) -> bytes:
        return _event("content_block_stop", index=self._index)

    def _call(self, call: Call) -> bytes:
        self._index += 1
        begin = self._begin(_tool_use(call, {}))
        delta = {"type": "input_json_delta", "partial_json": compact(call.arguments).decode()}
        pieces = _event("content_block_delta", index=self._index, delta=delta)
        return begin + pieces + _event("content_block_stop", index=self._index)

    def _begin(self, block: JsonObject) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _stop(self, final: JsonObject) -> bytes:
        delta = _ended(final, self._max_tokens, self._called)
        usage = _usage(*read_and_written(final))
        return _event("message_delta", delta=delta, usage=usage) + _event("message_stop")


def whole_message(body: MessagesBody, answer: JsonObject, model: str) -> JsonObject:
    """Return an answer that was not streamed. Raises EngineFailed."""
    message = part_of(checked(answer), "message")
    thought, text = texts_of(message)
    calls = [_tool_use(call, call.arguments) for call in calls_of(message)]
    return {
        **_heading(model),
        "content": [*([_thought(thought)] * bool(thought)), *([_text(text)] * bool(text)), *calls],
        **_ended(answer, body.max_tokens, bool(calls)),
        "usage": _usage(*read_and_written(answer)),
    }


def _heading(model: str) -> JsonObject:
    return {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": model}


def _text(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def _thought(thought: str) -> JsonObject:
    return {"type": "thinking", "thinking": thought, "signature": ""}


def _tool_use(call: Call, given: JsonObject) -> JsonObject:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _usage(read: int, written: int) -> JsonObject:
    return {"input_tokens": read, "output_tokens": written}


def _ended(final: JsonObject, max_tokens: int, called: bool) -> JsonObject:
    """Why the answer ended. An answer that was cut before its limit has filled the context."""
    if called:
        why = "tool_use"
    elif not is_cut(final):
        why = "end_turn"
    else:
        full = read_and_written(final)[1] < max_tokens
        why = "model_context_window_exceeded" if full else "max_tokens"
    return {"stop_reason": why, "stop_sequence": None}


def _event(kind: str, **more: object) -> bytes:
    return named(kind, {"type": kind, **more})
