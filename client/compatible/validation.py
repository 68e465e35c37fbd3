"""Bodies as what they must be; what is wrong with one is said in OpenAI's words."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from client.compatible.errors import BadRequest
from contracts.json_object import check_numbers

Kind = TypeVar("Kind", bound=BaseModel)

#: What pydantic calls an error, as OpenAI does.
_CODES = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}
#: Ours, of checks in the bodies.
_OURS = ("unsupported_parameter", "invalid_value", "invalid_type", "missing_required_parameter")


def read(body: bytes, kind: type[Kind]) -> Kind:
    """Return a body as a `kind`. Raises BadRequest, which names the first key that is wrong."""
    try:
        found = kind.model_validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        raise _bad(wrong, body) from error
    with_finite_numbers(body)
    return found


def with_finite_numbers(body: bytes) -> None:
    """Raise BadRequest, which names a number in a body that cannot go on as JSON."""
    try:
        check_numbers(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.", code="invalid_json") from error


def _bad(error: ErrorDetails, body: bytes) -> BadRequest:
    if error["type"] == "json_invalid" or (not error["loc"] and error["type"] not in _OURS):
        return BadRequest("The body must be a JSON object of the API, in UTF-8: "
                          f"{_lowered(error['msg'])}.", code="invalid_json")  # fmt: skip
    named = error.get("ctx", {}).get("param")
    param = named or _param(error["loc"], json.loads(body))
    return BadRequest(_words(error, param), param, _code(error["type"]))


def _words(error: ErrorDetails, param: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"Unrecognized request argument supplied: {param}."
    if error["type"] == "missing":
        return f"Missing required parameter: {param}."
    if error.get("ctx", {}).get("param"):
        return f"{error['msg']}."
    return f"{param} {_lowered(error['msg'])}.".replace("input should", "should")


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def _code(kind: str) -> str:
    if kind in _OURS:
        return kind
    return _CODES.get(kind) or ("invalid_type" if kind.endswith("_type") else "invalid_value")


def _param(loc: tuple[int | str, ...], body: object) -> str:
    """The place in the body, as `messages[0].content`: of pydantic's place what the body has, and
    what is missing at its end."""
    param, at = "", body
    for index, step in enumerate(loc):
        if isinstance(step, int) and isinstance(at, list) and step < len(at):
            param, at = f"{param}[{step}]", at[step]
        elif isinstance(at, dict) and (step in at or index == len(loc) - 1):
            param, at = f"{param}.{step}".removeprefix("."), at.get(str(step))
    return param
