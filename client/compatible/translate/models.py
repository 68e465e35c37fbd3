"""Models as OpenAI's API has them, from what Ollama's /api/tags lists."""

from __future__ import annotations

from datetime import datetime

from client.compatible.errors import ModelNotFound
from contracts.json_object import JsonObject
from engines.json_values import text_of
from engines.names import BadName, entries_of, entry_of, parse


def listing(tags: JsonObject) -> JsonObject:
    """Return the list of all models."""
    return {"object": "list", "data": [_model(found) for found in entries_of(tags)]}


def entry(tags: JsonObject, name: str) -> JsonObject:
    """Return one model, under any of its names. Raises ModelNotFound."""
    found = entry_of(tags, name)
    if found is None:
        raise ModelNotFound(name)
    return _model(found)


def _model(found: JsonObject) -> JsonObject:
    name = text_of(found, "name") or ""
    created = _seconds(text_of(found, "modified_at") or "")
    return {"id": name, "object": "model", "created": created, "owned_by": _owner(name)}


def _owner(name: str) -> str:
    try:
        return parse(name).namespace
    except BadName:
        return ""


def _seconds(time: str) -> int:
    """Unix time, of Ollama's; Python up to 3.10 reads no nanoseconds, which are not needed."""
    whole, zone = time[:19], time[-6:]
    try:
        return int(datetime.fromisoformat(whole + (zone if zone[:1] in "+-" else "+00:00"))
                   .timestamp())  # fmt: skip
    except ValueError:
        return 0
