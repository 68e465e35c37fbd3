"""JSON over HTTP: the bodies that come in, each as what it must be, and the answers that go out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

from flask import Response, jsonify, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from client.api.answers import Answered
from client.api.building import built
from client.errors import BadInput, Unsupported
from contracts.json_object import JsonObject, finite, no_constant
from contracts.validation import sentences, shown
from retrieval.bounds import MAX_BODY_BYTES

Kind = TypeVar("Kind", bound=BaseModel)

#: Levels of objects and arrays in a body. Python's own JSON gives up at about a thousand.
MAX_DEPTH = 100
#: Unknown keys that a message names; the nearest known key is looked up for each, which takes time.
MOST_NAMED = 10


def read(kind: type[Kind]) -> Kind:
    """Return the body that came in. Raises Unsupported, BadInput, or werkzeug's 413."""
    return validate(_json_object(), kind)


def validate(body: JsonObject, kind: type[Kind]) -> Kind:
    """Return what was given as a `kind`; null counts as not given. Raises BadInput naming all
    that is wrong (of many unknown keys the first ones)."""
    known = kind.model_fields
    given = {key: value for key, value in body.items() if value is not None and key in known}
    problems = _unknown_keys([key for key in body if key not in known], known)
    try:
        validated = built(kind).model_validate(given)
    except ValidationError as error:
        raise _bad([*problems, *sentences(error, kind, given)]) from error
    if problems:
        raise _bad(problems)
    return validated


def sent(answer: Answered, status: int = 200) -> tuple[Response, int]:
    """Return an answer as it goes out."""
    return jsonify(answer.as_json()), status


def _bad(problems: Sequence[str]) -> BadInput:
    return BadInput("; ".join(problems) + ".")


def _unknown_keys(keys: Sequence[str], known: Collection[str]) -> list[str]:
    problems = [_unknown(key, known) for key in keys[:MOST_NAMED]]
    more = len(keys) - MOST_NAMED
    return [*problems, f"{more} more are unknown"] if more > 0 else problems


def _unknown(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key[:100], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{shown(key)} is unknown ({hint})"


# --- JSON ---


def _json_object() -> JsonObject:
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise Unsupported("The body must be JSON: send Content-Type: application/json.")
    data = _whole_body()
    if len(data) == MAX_BODY_BYTES:  # of a chunked body werkzeug quietly drops what is above it
        raise RequestEntityTooLarge()
    try:
        body = _DECODER.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise BadInput(_TOO_DEEP) from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise BadInput(f"The body is not JSON: {error}.") from error
    if _is_deep(body):
        raise BadInput(_TOO_DEEP)
    if not isinstance(body, dict):
        raise BadInput(f"The body must be a JSON object, not {shown(body)}.")
    return body


_TOO_DEEP = f"The body is nested too deeply: at most {MAX_DEPTH} objects or arrays in each other."


def _whole_body() -> bytes:
    try:
        return request.get_data()
    except ClientDisconnected as error:  # or it has stalled: see client/serving.py
        raise BadInput("The body did not come to its end.") from error


def _is_deep(value: object) -> bool:
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        level = [inner for part in level for inner in _inner(part)]
        depth += 1
    return bool(level)


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _no_twins(pairs: list[tuple[str, object]]) -> JsonObject:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return members


_DECODER = json.JSONDecoder(
    parse_constant=no_constant, parse_float=finite, object_pairs_hook=_no_twins
)
