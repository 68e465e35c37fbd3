"""Answers of a chat as OpenAI's responses have them."""

from __future__ import annotations

import json
import time

from client.compatible.compact import compact
from client.compatible.errors import ApiError, EngineFailed
from client.compatible.translate.blocks import BlockEvents, Kind
from client.compatible.translate.events import named, new_id
from client.compatible.translate.native import (
    Call,
    calls_of,
    checked,
    is_cut,
    read_and_written,
    texts_of,
)
from client.compatible.translate.responses.bodies import ResponsesBody
from contracts.json_object import JsonObject
from engines.json_values import part_of

#: What an item begins with, and what events on its text are called.
_IDS = {Kind.THOUGHT: "rs_", Kind.TEXT: "msg_"}
_EVENTS = {Kind.THOUGHT: "response.reasoning_text", Kind.TEXT: "response.output_text"}
_UNDER_WAY, _WHOLE, _CUT = "in_progress", "completed", "incomplete"
#: OpenAI's word for a failure that is not the caller's.
_FAILED = "server_error"


class ResponseEvents(BlockEvents):
    """A response, streamed: its items one after another, each event with its number."""

    def __init__(self, body: ResponsesBody, model: str) -> None:
        super().__init__()
        self._response = _heading(body, model)
        self._output: list[JsonObject] = []  # the items that are whole
        self._number = 0
        self._raw: list[bytes] = []  # the text of the item under way, in pieces
        self._item = ""
        self._delta = self._ends = b""

    def failed(self, error: ApiError) -> bytes:
        """Return the error in the last event."""
        start = b"" if self._began else self._start()
        failure = {"code": _FAILED, "message": error.message}
        response = self._now(status="failed", error=failure)
        return start + self._next("response.failed", response=response)

    def _start(self) -> bytes:
        created = self._next("response.created", response=self._now())
        return created + self._next("response.in_progress", response=self._now())

    def _now(self, **more: object) -> JsonObject:
        return {**self._response, "output": self._output, **more}

    def _opened(self, kind: Kind) -> bytes:
        self._item, self._raw = new_id(_IDS[kind]), []
        self._delta = b'event: %b.delta\ndata: {"type":"%b.delta","sequence_number":' % (
            (_EVENTS[kind].encode(),) * 2
        )
        logprobs = b',"logprobs":[]' if kind is Kind.TEXT else b""
        at = compact(self._at())[1:-1]
        self._ends = b'"%b,%b}\n\n' % (logprobs, at)
        empty = {**_item(kind, self._item, "", _UNDER_WAY), "content": []}
        added = self._next("response.output_item.added", **self._index(), item=empty)
        part = _part(kind, "")
        return added + self._next("response.content_part.added", **self._at(), part=part)

    def _piece(self, raw: bytes) -> bytes:
        self._raw.append(raw)
        self._number += 1
        return b'%b%d,"delta":"%b%b' % (self._delta, self._number - 1, raw, self._ends)

    def _closed(self, kind: Kind, cut: bool) -> bytes:
        text = _decoded(b"".join(self._raw))
        logprobs: dict[str, list[str]] = {"logprobs": []} if kind is Kind.TEXT else {}
        done = self._next(f"{_EVENTS[kind]}.done", **self._at(), text=text, **logprobs)
        part = self._next("response.content_part.done", **self._at(), part=_part(kind, text))
        return done + part + self._add(_item(kind, self._item, text, _CUT if cut else _WHOLE))

    def _call(self, call: Call) -> bytes:
        self._item = new_id("fc_")
        item = _called(call, self._item)
        at = {"item_id": self._item, **self._index()}
        kind, arguments = "response.function_call_arguments", item["arguments"]
        begun = {**item, "arguments": "", "status": _UNDER_WAY}
        return b"".join(
            (
                self._next("response.output_item.added", **self._index(), item=begun),
                self._next(f"{kind}.delta", **at, delta=arguments),
                self._next(f"{kind}.done", **at, name=call.name, arguments=arguments),
                self._add(item),
            )
        )

    def _stop(self, final: JsonObject) -> bytes:
        ended = _ended(final)
        return self._next(f"response.{ended['status']}", response=self._now(**ended))

    def _add(self, item: JsonObject) -> bytes:
        done = self._next("response.output_item.done", **self._index(), item=item)
        self._output.append(item)
        return done

    def _index(self) -> dict[str, int]:
        return {"output_index": len(self._output)}

    def _at(self) -> JsonObject:
        return {"item_id": self._item, **self._index(), "content_index": 0}

    def _next(self, kind: str, **more: object) -> bytes:
        self._number += 1
        return named(kind, {"type": kind, "sequence_number": self._number - 1, **more})


def whole_response(body: ResponsesBody, answer: JsonObject, model: str) -> JsonObject:
    """Return an answer that was not streamed. Raises EngineFailed."""
    message = part_of(checked(answer), "message")
    texts = zip((Kind.THOUGHT, Kind.TEXT), texts_of(message), strict=True)
    blocks = [_item(kind, new_id(_IDS[kind]), text, _WHOLE) for kind, text in texts if text]
    calls = [_called(call, new_id("fc_")) for call in calls_of(message)]
    if is_cut(answer) and blocks and not calls:
        blocks[-1] = {**blocks[-1], "status": _CUT}
    return {**_heading(body, model), "output": [*blocks, *calls], **_ended(answer)}


def _heading(body: ResponsesBody, model: str) -> JsonObject:
    """A response before its first item, with what was asked."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": _UNDER_WAY,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None},
        "text": {"format": _format(body)},
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "tool_choice": body.tool_choice or "auto",
        "parallel_tool_calls": True,
        "truncation": "disabled",
        "background": False,
        "store": False,
        "previous_response_id": None,
        "metadata": body.metadata or {},
        "user": body.user,
        "usage": None,
    }


def _format(body: ResponsesBody) -> JsonObject:
    if body.text is None or body.text.format is None:
        return {"type": "text"}
    return body.text.format.model_dump(by_alias=True, exclude_none=True)


def _ended(final: JsonObject) -> JsonObject:
    """What is known at the end; not how many tokens were thought, or had been read before."""
    read, written = read_and_written(final)
    usage = {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
    if is_cut(final):
        why = {"reason": "max_output_tokens"}
        return {"status": _CUT, "incomplete_details": why, "usage": usage}
    return {"status": _WHOLE, "usage": usage}


def _item(kind: Kind, number: str, text: str, status: str) -> JsonObject:
    content = [_part(kind, text)]
    if kind is Kind.THOUGHT:
        more: JsonObject = {"type": "reasoning", "summary": []}
    else:
        more = {"type": "message", "role": "assistant"}
    return {"id": number, **more, "status": status, "content": content}


def _part(kind: Kind, text: str) -> JsonObject:
    if kind is Kind.THOUGHT:
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _called(call: Call, number: str) -> JsonObject:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {
        "id": number,
        "type": "function_call",
        "status": _WHOLE,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def _decoded(raw: bytes) -> str:
    """A text, of what it is in JSON."""
    try:
        return str(json.loads(b'"%b"' % raw, strict=False))
    except ValueError as error:
        raise EngineFailed(f"The engine sent a text that is no JSON: {error}.") from error
