"""JSON as it goes over the wire: without blanks."""

from __future__ import annotations

import json

from contracts.json_object import JsonObject


def compact(value: JsonObject) -> bytes:
    """Return an object as JSON, all of ASCII: half of a surrogate pair is no UTF-8."""
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one each time
