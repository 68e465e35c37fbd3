"""A field of a body: its meaning, and what is right for it in words, as JSON Schema, as a check."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """`about`: its meaning; `allowed`: what it must be, in words, and the same as `schema` (JSON
    Schema) and `right`, which decides. `made`: what is made of a value that is right."""

    about: str
    allowed: str
    schema: Mapping[str, Any]
    right: Callable[[Any], bool]
    made: Callable[[Any], Any] = lambda value: value


def text(about: str, limit: int) -> Field:
    """A text of at most `limit` bytes of UTF-8, which is at most as many characters."""

    def right(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogatepass")) <= limit

    schema = {"type": "string", "minLength": 1, "maxLength": limit}
    return Field(about, f"a text of 1 to {limit} bytes", schema, right)


def pattern(about: str, expression: str, allowed: str) -> Field:
    """A text that matches the regular expression as a whole."""
    compiled = re.compile(expression)

    def right(value: Any) -> bool:
        return isinstance(value, str) and compiled.fullmatch(value) is not None

    return Field(about, allowed, {"type": "string", "pattern": f"^{expression}$"}, right)


def whole(about: str, low: int, high: int) -> Field:
    """A whole number; 4.0 is one, as it is for JSON Schema."""

    def right(value: Any) -> bool:
        return _is_number(value) and low <= value <= high and value == int(value)

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Field(about, f"a whole number from {low} to {high}", schema, right, int)


def number(about: str, low: float, high: float) -> Field:
    """A number of more than `low`."""
    schema = {"type": "number", "exclusiveMinimum": low, "maximum": high}
    allowed = f"a number of more than {low:g} and at most {high:g}"
    return Field(about, allowed, schema, lambda value: _is_number(value) and low < value <= high)


def boolean(about: str) -> Field:
    """True or false."""
    return Field(about, "true or false", {"type": "boolean"}, lambda value: isinstance(value, bool))


def objects(about: str) -> Field:
    """Any object."""
    return Field(about, "an object", {"type": "object"}, lambda value: isinstance(value, dict))


def one_of(about: str, values: Sequence[str]) -> Field:
    """One of a few words."""
    schema = {"type": "string", "enum": list(values)}
    return Field(about, " or ".join(values), schema, lambda value: value in tuple(values))


def seconds_by_name(about: str, names: Sequence[str], high: float) -> Field:
    """An object of seconds by some of `names`."""
    limit = {"type": "number", "exclusiveMinimum": 0, "maximum": high}
    schema = {
        "type": "object",
        "properties": dict.fromkeys(names, limit),
        "additionalProperties": False,
        "minProperties": 1,
    }

    def right(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and len(value) > 0
            and value.keys() <= set(names)
            and all(_is_number(limit) and 0 < limit <= high for limit in value.values())
        )

    words = f"an object with {', '.join(names)} or some of them, each more than 0 and at most"
    return Field(about, f"{words} {high:g} seconds", schema, right)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
