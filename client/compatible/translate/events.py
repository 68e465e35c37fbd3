"""Server-sent events, made of the lines of Ollama's streams.

Nearly all lines bring a text and nothing else, and begin and end alike, as Go's encoder writes
them. Of those the text is passed on as it stands, without JSON being read or written: a text in
JSON holds no quote that is not escaped, so that one without any quote is all of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import getrandbits

from client.compatible.compact import compact
from client.compatible.errors import ApiError, EngineFailed
from client.compatible.translate.native import checked, usage_of
from contracts.json_object import JsonObject
from engines.http.answers import MOST_HELD, TOO_LONG
from engines.json_values import object_of
from engines.ollama import is_final

_QUOTE = b'"'
_THOUGHT = b'","thinking":"'
_AFTER = len(_THOUGHT)


def new_id(prefix: str) -> str:
    """Return an id that nothing else has."""
    return f"{prefix}{getrandbits(112):028x}"


def data(value: JsonObject) -> bytes:
    """Return an event without a name."""
    return b"data: %b\n\n" % compact(value)


def named(name: str, value: JsonObject) -> bytes:
    """Return an event with a name."""
    return b"event: %b\n%b" % (name.encode(), data(value))


class Events(ABC):
    """Makes the events of one stream."""

    #: What is before and after the text in a line that brings nothing else.
    before: bytes
    after: bytes
    #: Whether what the model thinks is passed on.
    thinks = False

    def __init__(self) -> None:
        self.usage: JsonObject = {}  # the counts of tokens, once the answer has ended
        self._rest = b""
        self._last = b""  # the events of the last line: they go with the end of the answer

    # --- for a subclass ---

    @abstractmethod
    def _text(self, raw: bytes) -> bytes:
        """The events of a piece of the text, as it stands in JSON."""

    @abstractmethod
    def _thought(self, raw: bytes) -> bytes:
        """Those of a piece of what the model thinks."""

    @abstractmethod
    def _other(self, line: JsonObject) -> bytes:
        """Those of a line that is not as most are, but for the end."""

    @abstractmethod
    def _finish(self, line: JsonObject) -> bytes:
        """The last events, by the final line."""

    @abstractmethod
    def failed(self, error: ApiError) -> bytes:
        """Return the last events of a stream that fails on its way."""

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
                return self._text(text) if text else b""
            if self.thinks and text.startswith(_THOUGHT) and text.find(_QUOTE, _AFTER) < 0:
                return self._thought(text[_AFTER:])
        return self._read(line)

    def _read(self, line: bytes) -> bytes:
        """Any line, by its JSON."""
        try:
            read = checked(object_of(line))
        except (ValueError, RecursionError) as error:
            raise EngineFailed(f"The engine sent what is no line of a stream: {error}.") from error
        events = self._other(read)
        if not is_final(read):
            return events
        self.usage = usage_of(read)
        self._last = events + self._finish(read)
        return b""
