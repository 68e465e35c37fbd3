"""Server-sent events of OpenAI's streams, made of the lines of Ollama's.

Nearly all lines bring a text and nothing else, and begin and end alike, as Go's encoder writes
them. Of those the text is passed on as it stands, without JSON being read or written: a text in
JSON holds no quote that is not escaped, so that one without any quote is all of it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from random import getrandbits
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
_AFTER = len(_THOUGHT)


def heading(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """Return the keys that each object of an answer begins with; `prefix` is that of its id."""
    number = f"{prefix}-{getrandbits(112):028x}"
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
    """Makes the events of one stream."""

    #: What is before and after the text in a line that brings nothing else.
    before: bytes
    after: bytes
    #: What is before a text in the choice of an event, in that of the first one, and after it; and
    #: before what the model thinks, if that is passed on.
    text: bytes
    first_text: bytes
    text_ends: bytes
    thought: bytes = b""
    first_thought: bytes = b""

    def __init__(self, heading: JsonObject, usage: bool) -> None:
        """`usage`: whether the counts of tokens come in an event of their own."""
        self._heading, self._usage = heading, usage
        self._rest = b""
        self.usage: JsonObject = {}  # the counts of tokens, once the answer has ended
        self._last = b""  # those of the last line: they go with the end of the answer
        self._first = True
        self._begin = b'data: %b,"choices":[{"index":0,' % compact(heading)[:-1]
        no_usage = b',"usage":null' if usage else b""
        self._end = b'%b,"finish_reason":null}]%b}\n\n' % (self.text_ends, no_usage)
        self._text = self._begin + self.first_text
        self._thought = self._begin + self.first_thought

    # --- for a subclass ---

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
        """Return the last events. Raises EngineFailed if the stream has broken off."""
        rest, self._rest = self._rest, b""
        if rest.strip():  # it has no end of a line
            self._event(rest)
        if not self._last:
            raise EngineFailed("The engine's answer broke off.")
        return self._last

    def _event(self, line: bytes) -> bytes:
        start = line.find(self.before)
        if start > 0 and line.endswith(self.after):
            text = line[start + len(self.before) : -len(self.after)]
            if text.find(_QUOTE) < 0:
                return self._piece(self._text, text) if text else b""
            if self.thought and text.startswith(_THOUGHT) and text.find(_QUOTE, _AFTER) < 0:
                return self._piece(self._thought, text[_AFTER:])
        return self._read(line)

    def _piece(self, begin: bytes, text: bytes) -> bytes:
        if self._first:
            self._began()
        return begin + text + self._end

    def _began(self) -> None:
        """The first event is made."""
        self._first = False
        self._text, self._thought = self._begin + self.text, self._begin + self.thought

    def _read(self, line: bytes) -> bytes:
        """Any line, by its JSON."""
        try:
            read = checked(object_of(line))
        except (ValueError, RecursionError) as error:
            raise EngineFailed(f"The engine sent what is no line of a stream: {error}.") from error
        choice = self._choice(read)
        event = self._written(choice) if choice else b""
        if not is_final(read):
            return event
        self.usage = usage_of(read)
        self._last = b"".join((event, self._written(self._finish(read)), *self._counts(), DONE))
        return b""

    def _written(self, choice: JsonObject) -> bytes:
        self._began()
        usage = {"usage": None} if self._usage else {}
        whole = {"index": 0, "finish_reason": None, **choice}
        return _data({**self._heading, "choices": [whole], **usage})

    def _counts(self) -> list[bytes]:
        if not self._usage:
            return []
        return [_data({**self._heading, "choices": [], "usage": self.usage})]


def _data(value: JsonObject) -> bytes:
    return b"data: %b\n\n" % compact(value)
