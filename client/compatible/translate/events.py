"""Server-sent events of OpenAI's streams, made of the lines of Ollama's.

Nearly all lines bring a text and nothing else, and begin and end alike, as Go's encoder writes
them. Of those the text is passed on as it stands, without JSON being read or written: a text in
JSON holds no quote that is not escaped, so that one without any quote is all of it.
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

from client.compatible.compact import compact
from client.compatible.errors import EngineFailed
from contracts.json_object import JsonObject
from engines.http_answers import MOST_HELD, TOO_LONG
from engines.json_values import count_of, object_of, text_of
from engines.ollama import error_of, input_tokens_of, is_final

DONE = b"data: [DONE]\n\n"
_QUOTE = b'"'
_THOUGHT = b'","thinking":"'


def heading(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """Return the keys that each object of an answer begins with; `prefix` is that of its id."""
    number = f"{prefix}-{uuid.uuid4().hex}"
    return {"id": number, "object": kind, "created": int(time.time()), "model": model}


def usage_of(final: JsonObject) -> JsonObject:
    """Return the counts of tokens of a final line or whole answer."""
    read, written = input_tokens_of(final) or 0, count_of(final, "eval_count") or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def checked(answer: JsonObject) -> JsonObject:
    """Return a line, or an answer. Raises EngineFailed if it says that the engine failed."""
    error = error_of(answer)
    if error is not None:
        raise EngineFailed(f"The engine failed: {error[:500]}")
    return answer


def finish_reason(final: JsonObject) -> str:
    """Return why the answer ended, in OpenAI's words."""
    return "length" if text_of(final, "done_reason") == "length" else "stop"


class Events(ABC):
    """Makes events of one stream. `over`: its last line has come."""

    #: What is before and after the text in a line that brings nothing else.
    before: bytes
    after: bytes

    def __init__(self, heading: JsonObject, usage: bool) -> None:
        """`usage`: whether the counts of tokens come in an event of their own."""
        self._heading, self._usage = heading, usage
        self._rest = b""
        self.over = False
        no_usage = b',"usage":null' if usage else b""
        head = compact(heading)[:-1]
        self._begin = b'data: %b,"choices":[{"index":0,' % head
        self._end = b',"finish_reason":null}]%b}\n\n' % no_usage
        self._text_begins, self._text_ends = self._around("content")
        self._thought_begins, self._thought_ends = self._around("reasoning")
        self._first = True

    # --- for a subclass ---

    @abstractmethod
    def _around(self, key: str) -> tuple[bytes, bytes]:
        """What is before and after a text of that key in an event."""

    @abstractmethod
    def _choice(self, line: JsonObject) -> dict[str, Any]:
        """What a line that is not as most are brings, but for the end; empty if nothing."""

    @abstractmethod
    def _finish(self, line: JsonObject) -> dict[str, Any]:
        """The choice of the event that says why the answer ended."""

    # --- for who streams ---

    def feed(self, piece: bytes) -> bytes:
        """Return the events of a piece of the stream. Raises EngineFailed."""
        if not self._rest and piece.find(b"\n") == len(piece) - 1:
            return self._event(piece[:-1])
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MOST_HELD:
            raise EngineFailed(f"The engine {TOO_LONG} of a line.")
        return b"".join(self._event(line) for line in lines if line)

    def end(self) -> bytes:
        """Return the events of what has no end of a line. Raises EngineFailed if the stream has
        broken off."""
        rest, self._rest = self._rest, b""
        events = self._event(rest) if rest.strip() else b""
        if not self.over:
            raise EngineFailed("The engine's answer broke off.")
        return events

    def _event(self, line: bytes) -> bytes:
        start = line.find(self.before)
        if start > 0 and not self._first and line.endswith(self.after):
            text = line[start + len(self.before) : -len(self.after)]
            if text.find(_QUOTE) < 0:
                return self._text_begins + text + self._text_ends if text else b""
            if text.startswith(_THOUGHT) and text.find(_QUOTE, len(_THOUGHT)) < 0:
                return self._thought_begins + text[len(_THOUGHT) :] + self._thought_ends
        return self._read(line)

    def _read(self, line: bytes) -> bytes:
        """Any line, by its JSON."""
        try:
            read = checked(object_of(line))
        except (ValueError, RecursionError) as error:
            raise EngineFailed(f"The engine sent what is no line of a stream: {error}.") from error
        choice = self._choice(read)
        events = [self._written(choice)] if choice else []
        if is_final(read):
            events += [self._written(self._finish(read)), *self._counts(read), DONE]
            self.over = True
        return b"".join(events)

    def _written(self, choice: JsonObject) -> bytes:
        self._first = False
        usage = {"usage": None} if self._usage else {}
        whole = {"index": 0, "finish_reason": None, **choice}
        return _data({**self._heading, "choices": [whole], **usage})

    def _counts(self, final: JsonObject) -> list[bytes]:
        if not self._usage:
            return []
        return [_data({**self._heading, "choices": [], "usage": usage_of(final)})]


def _data(value: JsonObject) -> bytes:
    return b"data: %b\n\n" % compact(value)
