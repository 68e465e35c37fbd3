"""Streams whose answers come as blocks, one after another: what the model thinks, what it says,
what it calls. Each is opened, comes in pieces, and is closed."""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum

from client.compatible.compact import compact
from client.compatible.translate.chat_answers import AFTER, BEFORE
from client.compatible.translate.events import Events
from client.compatible.translate.native import Call, calls_of, is_cut, texts_of
from contracts.json_object import JsonObject
from engines.json_values import part_of


class Kind(Enum):
    """What a block of text is."""

    THOUGHT = "thinking"
    TEXT = "text"


class BlockEvents(Events):
    """Makes the events of one stream of blocks."""

    before, after, thinks = BEFORE, AFTER, True

    def __init__(self) -> None:
        super().__init__()
        self._began = False
        self._open: Kind | None = None  # the block that is under way
        self._called = False

    # --- for a subclass ---

    @abstractmethod
    def _start(self) -> bytes:
        """The events before the first block."""

    @abstractmethod
    def _opened(self, kind: Kind) -> bytes:
        """Those that open a block."""

    @abstractmethod
    def _piece(self, raw: bytes) -> bytes:
        """That of a piece of the block, as it stands in JSON."""

    @abstractmethod
    def _closed(self, kind: Kind, cut: bool) -> bytes:
        """Those that close a block; `cut`: the answer has ended at a limit."""

    @abstractmethod
    def _call(self, call: Call) -> bytes:
        """Those of a block that is a call."""

    @abstractmethod
    def _stop(self, final: JsonObject) -> bytes:
        """Those after the last block."""

    # --- as any events ---

    def _text(self, raw: bytes) -> bytes:
        return self._of(Kind.TEXT, raw)

    def _thought(self, raw: bytes) -> bytes:
        return self._of(Kind.THOUGHT, raw)

    def _other(self, line: JsonObject) -> bytes:
        message = part_of(line, "message")
        thought, text = texts_of(message)
        found = self._of(Kind.THOUGHT, compact(thought)[1:-1]) if thought else b""
        found += self._of(Kind.TEXT, compact(text)[1:-1]) if text else b""
        for call in calls_of(message):
            self._called = True
            found += self._between() + self._call(call)
        return found

    def _finish(self, line: JsonObject) -> bytes:
        return self._between(is_cut(line)) + self._stop(line)

    def _of(self, kind: Kind, raw: bytes) -> bytes:
        if self._open is kind:
            return self._piece(raw)
        before = self._between()
        self._open = kind
        return before + self._opened(kind) + self._piece(raw)

    def _between(self, cut: bool = False) -> bytes:
        """Close what is open; begin if nothing has begun."""
        kind, self._open = self._open, None
        if kind is not None:
            return self._closed(kind, cut)
        begun, self._began = self._began, True
        return b"" if begun else self._start()
