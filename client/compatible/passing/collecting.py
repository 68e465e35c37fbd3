"""Whole answers of what came as a stream: llama.cpp's server sees that its caller has gone only
where it streams, so that it is always asked to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from client.compatible.errors import EngineFailed
from contracts.json_object import JsonObject
from engines.json_values import object_of, part_of
from engines.openai import failure_of

_DATA, _DONE = b"data:", b"[DONE]"
#: What a chunk is called, and the whole of them.
_OBJECTS = {"chat.completion.chunk": "chat.completion"}
#: Of keys that come with each piece, and do not grow.
_SAME = ("index", "type", "role", "id")


def collected(stream: bytes) -> JsonObject:
    """Return the answer whose chunks, of a chat or a completion, these are. Raises EngineFailed if
    the engine has failed on its way, or they are not whole."""
    whole: dict[str, Any] = {}
    choices: dict[object, dict[str, Any]] = {}
    for chunk in _chunks(stream):
        failure = failure_of(chunk, None)
        if failure is not None:
            raise EngineFailed(f"The engine failed: {failure[:500]}")
        whole |= {key: value for key, value in chunk.items() if key != "choices"}
        for choice in _objects(chunk.get("choices")):
            _grow(choices.setdefault(choice.get("index"), {}), choice)
    kind = whole.get("object")
    listed = [_finished(choice) for _, choice in sorted(choices.items(), key=str)]
    return {**whole, "object": _OBJECTS.get(str(kind), kind), "choices": listed}


def _chunks(stream: bytes) -> Iterator[JsonObject]:
    for line in stream.split(b"\n"):
        if not line.startswith(_DATA):
            continue
        data = line[len(_DATA) :].strip()
        if data == _DONE:
            return
        try:
            yield object_of(data)
        except (ValueError, RecursionError) as error:
            raise EngineFailed(f"The engine sent what is no stream: {data[:100]!r}.") from error
    raise EngineFailed("The engine's answer broke off.")


def _objects(values: object) -> Iterator[JsonObject]:
    for value in values if isinstance(values, list) else ():
        if isinstance(value, dict):
            yield value


def _finished(choice: JsonObject) -> JsonObject:
    """Of a chat the whole message stands where its pieces did; its calls of tools have no number
    there."""
    if "delta" not in choice:
        return choice
    message = {"content": None, **part_of(choice, "delta")}
    calls = list(_objects(message.get("tool_calls")))
    if calls:
        message["tool_calls"] = [
            {key: value for key, value in call.items() if key != "index"} for call in calls
        ]
    others = {key: value for key, value in choice.items() if key != "delta"}
    return {**others, "message": message}


def _grow(whole: dict[str, Any], piece: JsonObject) -> None:
    """Add a piece: texts and lists grow, of objects each key; others are replaced."""
    for key, value in piece.items():
        before = whole.get(key)
        if before is None or (key in _SAME and value is not None):
            whole[key] = _copied(value)
        elif isinstance(before, str) and isinstance(value, str):
            whole[key] = before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            _grow(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            _extend(before, value)
        elif value is not None:
            whole[key] = value


def _copied(value: object) -> object:
    """What may grow is its own."""
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _extend(whole: list[Any], pieces: list[Any]) -> None:
    """Those with an index, as calls of tools have one, are pieces of what has the same."""
    for piece in pieces:
        number = piece.get("index") if isinstance(piece, dict) else None
        same = [one for one in _objects(whole) if number is not None and one.get("index") == number]
        if same:
            _grow(same[0], piece)  # type: ignore[arg-type]
        else:
            whole.append(_copied(piece))
