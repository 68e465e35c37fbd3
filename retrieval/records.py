"""Records of JSON Lines: a text, and what else is plain as metadata, within the store's bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from contracts.json_object import JsonObject
from retrieval.bounds import HIGHEST, LOWEST, MAX_KEYS, MAX_METADATA
from retrieval.errors import Unusable
from retrieval.text import storable

#: What the store looks for.
Plain = str | int | float | bool | list[str]
Metadata = Mapping[str, Plain]


@dataclass(frozen=True)
class JsonRecord:
    """`dropped`: keys of fields for which there is no room."""

    text: str
    metadata: Metadata
    dropped: list[str]


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines that are not blank, by number. They end at line feeds, and nowhere else; each may
    begin with a byte-order mark, as if files were joined."""
    begin = number = 0
    while begin < len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        line = text[begin:end].removeprefix("\ufeff").strip(" \t\r")
        begin, number = end + 1, number + 1
        if line:
            yield number, line


def json_record(line: str, number: int) -> JsonRecord:
    """Return what is in a line. Raises Unusable."""
    try:
        found = json.loads(line, parse_int=_whole)
    except RecursionError as error:
        raise Unusable("unreadable", f"line {number} is nested too deeply") from error
    except ValueError as error:
        raise Unusable("unreadable", f"line {number} is not JSON") from error
    text = found.pop("text", None) if isinstance(found, dict) else None
    if not isinstance(text, str):
        words = f'line {number} is no object with a "text" that is a string'
        raise Unusable("unreadable", words)
    inner = found.get("metadata")
    if isinstance(inner, dict):
        del found["metadata"]
        found.update(inner)
    metadata, dropped = _bounded(found, {"line": number})
    return JsonRecord(storable(text), metadata, dropped)


def _whole(digits: str) -> int | str:
    """A number of more than 64 bits, such as a long identifier, is kept as a text."""
    if len(digits) < 20:
        value = int(digits)
        if LOWEST <= value <= HIGHEST:
            return value
    return digits


def _bounded(fields: JsonObject, ours: dict[str, int]) -> tuple[Metadata, list[str]]:
    """Those fields, in their order, that there is room for, and the keys of the others."""
    kept: dict[str, Plain] = {}
    dropped = []
    room = MAX_METADATA - _size(ours)
    for given, value in fields.items():
        if not _is_plain(value):
            continue
        key, plain = storable(given), _storable(value)
        # Brackets of an object stand for the comma between two fields.
        size = _size({key: plain})
        if len(kept) + len(ours) < MAX_KEYS and size <= room:
            kept[key] = plain
            room -= size
        else:
            dropped.append(key)
    return {**kept, **ours}, dropped


def _size(fields: Metadata) -> int:
    return len(json.dumps(fields))


def _is_plain(value: object) -> TypeGuard[Plain]:
    """NaN, as pandas writes it, is no value; neither is what is too large for a number."""
    if isinstance(value, float):
        return math.isfinite(value)
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return texts or isinstance(value, (str, int, bool))


def _storable(value: Plain) -> Plain:
    if isinstance(value, list):
        return [storable(item) for item in value]
    return storable(value) if isinstance(value, str) else value
