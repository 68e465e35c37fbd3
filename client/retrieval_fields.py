"""The fields of retrieval: of POST /search and POST /points, and `retrieval` of POST /query."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from client.fields import Field
from retrieval.settings import MAX_TOP_K

MAX_CHUNKS = 256
MAX_TEXT = 200_000
MAX_COUNT = 10_000_000
MAX_KEYS = 64
_KEY = r"[A-Za-z0-9_-]{1,64}"
_LOW, _HIGH = -(2**63), 2**63 - 1

_NUMBER = {"type": "integer", "minimum": _LOW, "maximum": _HIGH}
_WORD = {"type": "string", "maxLength": 1_000}
_LISTS = [{"type": "array", "minItems": 1, "maxItems": 100, "items": i} for i in (_WORD, _NUMBER)]
_FILTER: Mapping[str, Any] = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"pattern": f"^{_KEY}$"},
    "additionalProperties": {"anyOf": [_WORD, _NUMBER, {"type": "boolean"}, *_LISTS]},
}
_TOP_K: Mapping[str, Any] = {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K}
_ABOUT_FILTER = (
    "Only chunks whose metadata (or source, heading, position) have these values; of a list, one."
)
_CHUNK: Mapping[str, Any] = {
    "type": "object",
    "required": ["position", "text"],
    "additionalProperties": False,
    "properties": {
        "position": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT},
        "text": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "heading": {"type": "string", "maxLength": MAX_TEXT},
        "metadata": {"type": "object", "maxProperties": MAX_KEYS},
    },
}


def filter_field() -> Field:
    """An object of what the metadata must be."""
    words = "an object of values, or lists of them, by at most 16 keys of letters, digits, _ and -"
    return Field(_ABOUT_FILTER, words, _FILTER, _is_filter, _made_filter)


def retrieval_option() -> Field:
    """Of a query: true, or an object of `top_k` and `filter`."""
    about = "Answer from the ingested documents: true, or how (default: false)."
    schema = {
        "type": ["boolean", "object"],
        "properties": {"top_k": _TOP_K, "filter": {**_FILTER, "description": _ABOUT_FILTER}},
        "additionalProperties": False,
    }
    words = f"true, false, or an object with top_k (1 to {MAX_TOP_K}), filter, or both"
    return Field(about, words, schema, _is_option, _made_option)


def chunks() -> Field:
    """A list of chunks of one document."""
    schema = {"type": "array", "maxItems": MAX_CHUNKS, "items": _CHUNK}
    words = f"at most {MAX_CHUNKS} objects with position, text and perhaps heading and metadata"
    about = "Chunks of it; those that are there already are left as they are."
    return Field(about, words, schema, _are_chunks, _made_chunks)


def stored_text(about: str, limit: int) -> Field:
    """A text of at most `limit` characters that can be stored."""
    schema = {"type": "string", "minLength": 1, "maxLength": limit}
    allowed = f"a text of 1 to {limit} characters"
    return Field(about, allowed, schema, lambda value: _is_text(value, 1, limit))


def _is_filter(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 16
        and all(re.fullmatch(_KEY, key) and _is_wanted(one) for key, one in value.items())
    )


def _is_wanted(value: Any) -> bool:
    if isinstance(value, list):
        right = 0 < len(value) <= 100
        return right and (all(map(_is_word, value)) or all(map(_is_number, value)))
    return isinstance(value, bool) or _is_word(value) or _is_number(value)


def _is_word(value: Any) -> bool:
    return _is_text(value, 0, 1_000)


def _is_number(value: Any) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and _LOW <= value <= _HIGH


def _made_filter(value: Mapping[str, Any]) -> dict[str, Any]:
    """4.0 is 4."""

    def made(one: Any) -> Any:
        if isinstance(one, list):
            return [made(item) for item in one]
        return int(one) if isinstance(one, float) else one

    return {key: made(one) for key, one in value.items()}


def _is_option(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    if not isinstance(value, dict) or not value.keys() <= {"top_k", "filter"}:
        return False
    top_k = value.get("top_k", 1)
    return _is_number(top_k) and 1 <= top_k <= MAX_TOP_K and _is_filter(value.get("filter", {}))


def _made_option(value: Any) -> Any:
    if isinstance(value, bool):
        return value or None
    made: dict[str, Any] = {}
    if "top_k" in value:
        made["top_k"] = int(value["top_k"])
    if "filter" in value:
        made["filter"] = _made_filter(value["filter"])
    return made or True


def _are_chunks(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_CHUNKS and all(map(_is_chunk, value))


def _made_chunks(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """4.0 is 4."""
    return [{**chunk, "position": int(chunk["position"])} for chunk in value]


def _is_chunk(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _CHUNK["properties"].keys():
        return False
    metadata, position = value.get("metadata", {}), value.get("position", -1)
    return (
        _is_number(position)
        and 0 <= position <= MAX_COUNT
        and _is_text(value.get("text"), 1, MAX_TEXT)
        and _is_text(value.get("heading", ""), 0, MAX_TEXT)
        and isinstance(metadata, dict)
        and len(metadata) <= MAX_KEYS
        and _is_text(json.dumps(metadata, ensure_ascii=False), 0, 10 * MAX_TEXT)
    )


def _is_text(value: Any, low: int, high: int) -> bool:
    """A string of `low` to `high` characters that can be stored: no half of a surrogate pair."""
    if not isinstance(value, str) or not low <= len(value) <= high:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
