"""JSON as it goes over the wire: without blanks."""

from __future__ import annotations

import json

from pydantic_core import PydanticSerializationError, to_json

from contracts.json_object import JsonObject


def compact(value: JsonObject | str) -> bytes:
    """Return an object, or a text, as JSON. Half of a surrogate pair, which is no UTF-8, stays
    escaped."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return json.dumps(value, separators=(",", ":")).encode()
