"""Streams that go through: events as they come, of which some are read."""

from __future__ import annotations

from client.compatible.errors import ApiError, EngineFailed
from client.compatible.passing.usage import usage_in
from client.compatible.translate.events import data, named
from contracts.json_object import JsonObject
from engines.http.answers import MOST_HELD, TOO_LONG
from engines.json_values import object_of

_DATA = b"data:"
#: How lines begin of the last event: of chats and completions, of messages, of responses, and of a
#: failure, which the engine tells itself.
_LAST = (
    *(b"data: [DONE]", b"data:[DONE]", b"event: message_stop"),
    *(b"event: response.completed", b"event: response.incomplete", b"event: response.failed"),
    *(b"event: error", b'data: {"error"', b'data:{"error"'),
)
_USAGE = b'"usage"'


class PassedEvents:
    """One stream. `usage`: the counts of tokens, as far as they have come."""

    def __init__(self, anthropic: bool, hides_usage: bool) -> None:
        """`anthropic`: whose errors it has; `hides_usage`: whether the chunk that has nothing but
        the counts is kept back, since it was not asked for by whom it goes to."""
        self.usage: JsonObject = {}
        self._anthropic, self._hides_usage = anthropic, hides_usage
        self._rest = b""
        self._hidden = self._ended = False

    def feed(self, piece: bytes) -> bytes:
        """Return what goes on of a piece. Raises EngineFailed."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MOST_HELD:
            raise EngineFailed(f"The engine {TOO_LONG} of a line.")
        return b"".join(map(self._line, lines))

    def end(self) -> bytes:
        """Return what is left. Raises EngineFailed if the stream has broken off."""
        rest, self._rest = self._rest, b""
        left = self._line(rest) if rest else b""
        if not self._ended:
            raise EngineFailed("The engine's answer broke off.")
        return left

    def failed(self, error: ApiError) -> bytes:
        """Return the last event of a stream that fails on its way."""
        if self._anthropic:
            return named("error", error.as_anthropic())
        return data(error.as_json())

    def _line(self, line: bytes) -> bytes:
        if self._hidden:  # the line that ends the event goes with it
            self._hidden = bool(line.strip())
            return b""
        self._ended = self._ended or line.startswith(_LAST)
        if _USAGE in line and line.startswith(_DATA):
            self._hidden = self._read(line[len(_DATA) :])
        return b"" if self._hidden else line + b"\n"

    def _read(self, said: bytes) -> bool:
        """Read the counts; whether the event is kept back."""
        try:
            event = object_of(said)
        except (ValueError, RecursionError):
            return False  # it is no business of ours
        found = usage_in(event)
        self.usage = {**self.usage, **found}
        return self._hides_usage and bool(found) and event.get("choices") == []
