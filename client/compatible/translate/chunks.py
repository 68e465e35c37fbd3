"""The streams of OpenAI's chats and completions: each event is a chunk, with a choice."""

from __future__ import annotations

import time
from abc import abstractmethod

from client.compatible.compact import compact
from client.compatible.errors import ApiError
from client.compatible.translate.events import Events, data, new_id
from client.compatible.translate.native import is_cut
from contracts.json_object import JsonObject

DONE = b"data: [DONE]\n\n"


def heading(kind: str, prefix: str, model: str) -> JsonObject:
    """Return the keys that each object of an answer begins with; `prefix` is that of its id."""
    number = new_id(f"{prefix}-")
    return {"id": number, "object": kind, "created": int(time.time()), "model": model}


def finish_reason(final: JsonObject) -> str:
    """Return why the answer ended."""
    return "length" if is_cut(final) else "stop"


class Chunks(Events):
    """Makes the chunks of one stream."""

    #: What is before a text in the choice of an event, in that of the first one, and after it; and
    #: before what the model thinks, if that is passed on.
    text: bytes
    first_text: bytes
    text_ends: bytes
    thought: bytes = b""
    first_thought: bytes = b""

    def __init__(self, heading: JsonObject, usage: bool) -> None:
        """`usage`: whether the counts of tokens come in an event of their own."""
        super().__init__()
        self._heading, self._usage = heading, usage
        self._first = True
        self._begin = b'data: %b,"choices":[{"index":0,' % compact(heading)[:-1]
        no_usage = b',"usage":null' if usage else b""
        self._end = b'%b,"finish_reason":null}]%b}\n\n' % (self.text_ends, no_usage)
        self._to_text = self._begin + self.first_text
        self._to_thought = self._begin + self.first_thought

    # --- for a subclass ---

    @abstractmethod
    def _choice(self, line: JsonObject) -> JsonObject:
        """What a line that is not as most are brings, but for the end; empty if nothing."""

    @abstractmethod
    def _last_choice(self, line: JsonObject) -> JsonObject:
        """The choice of the event that says why the answer ended."""

    # --- as any events ---

    def failed(self, error: ApiError) -> bytes:
        """Return the error as the last event."""
        return data(error.as_json())

    def _text(self, raw: bytes) -> bytes:
        event = self._to_text + raw + self._end
        if self._first:
            self._began()
        return event

    def _thought(self, raw: bytes) -> bytes:
        event = self._to_thought + raw + self._end
        if self._first:
            self._began()
        return event

    def _other(self, line: JsonObject) -> bytes:
        choice = self._choice(line)
        return self._written(choice) if choice else b""

    def _finish(self, line: JsonObject) -> bytes:
        return b"".join((self._written(self._last_choice(line)), *self._counts(), DONE))

    def _began(self) -> None:
        """The first event is made."""
        self._first = False
        self._to_text, self._to_thought = self._begin + self.text, self._begin + self.thought

    def _written(self, choice: JsonObject) -> bytes:
        self._began()
        usage = {"usage": None} if self._usage else {}
        whole = {"index": 0, "finish_reason": None, **choice}
        return data({**self._heading, "choices": [whole], **usage})

    def _counts(self) -> list[bytes]:
        if not self._usage:
            return []
        return [data({**self._heading, "choices": [], "usage": self.usage})]
