"""Values in what servers send, as far as they are what they are to be."""

from __future__ import annotations

import json

from contracts.json_object import JsonObject

_NS = 1e-9
_MOST = 2**63  # what counts and durations of servers are below
#: What stands for no error.
NO_ERROR = (None, False)


def object_or_empty(data: bytes) -> JsonObject:
    """Return the JSON object that bytes are; {} if they are none."""
    try:
        return object_of(data)
    except (ValueError, RecursionError):
        return {}


def object_of(line: bytes) -> JsonObject:
    """Return the JSON object that a line is. Raises ValueError, RecursionError: it is none."""
    from pydantic_core import from_json  # not for those who read no lines

    try:
        chunk = from_json(line)  # ten times as fast; it does not take all: no half of a surrogate
    except ValueError:
        chunk = json.loads(line)
    if not isinstance(chunk, dict):
        raise ValueError("a line of the stream is no object")
    return chunk


def text_of(chunk: JsonObject, key: str) -> str | None:
    value = chunk.get(key)
    return value if isinstance(value, str) else None


def part_of(chunk: JsonObject, key: str) -> JsonObject:
    """Return the object under a key; an empty one if there is none."""
    value = chunk.get(key)
    return value if isinstance(value, dict) else {}


def count_of(chunk: JsonObject, key: str) -> int | None:
    value = chunk.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < _MOST else None


def number_of(chunk: JsonObject, key: str) -> float | None:
    """Return the number under a key; None also for NaN, which is within no bounds."""
    value = chunk.get(key)
    return float(value) if isinstance(value, (int, float)) and 0 <= value < _MOST else None


def seconds_of(chunk: JsonObject, key: str) -> float | None:
    nanoseconds = number_of(chunk, key)
    return None if nanoseconds is None else nanoseconds * _NS


def error_words(error: object) -> str:
    """Return an error's words: Ollama's is a text, others' an object with a message."""
    return str((error.get("message") or error) if isinstance(error, dict) else error)


def error_text(body: bytes, most: int = 300) -> str:
    """Return the server's own words in the body of an HTTP error, at most so many characters."""
    text = body.decode("utf-8", "replace").strip()
    try:
        text = error_words(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return text.strip()[:most]


def keys_before(values: JsonObject) -> str:
    """Return keys and values as they stand in a JSON object before others."""
    return json.dumps(values)[1:-1] + (", " if values else "")
