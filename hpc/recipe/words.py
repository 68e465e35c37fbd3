"""Errors of recipes and site profiles in words: each with its JSON path, all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from contracts.errors import UsageError
from contracts.validation import must_of
from hpc.recipe.values import NAME_PATTERN, NAMES_PATTERN

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: Of a value in the JSON.
Location = tuple[int | str, ...]
_Kind = TypeVar("_Kind", bound=BaseModel)


def validate(kind: type[_Kind], data: object, what: str) -> _Kind:
    """`data` as a `kind` (a pydantic model). Raises UsageError listing every error."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = list(dict.fromkeys(_explain(kind, e) for e in error.errors(include_url=False)))
        raise UsageError(f"{what} is not valid: {count(lines)}", lines) from error


def _explain(kind: type[BaseModel], error: ErrorDetails) -> str:
    location, alternatives = _field_at(kind, error["loc"])
    path = ".".join(str(part) for part in location) or "(the whole file)"
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(kind, location)}"
    if error["type"] == "missing":
        return f"{path}: is missing"
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return f"{path}: {_requirement(error)}"
    return f"{path} = {_shorten(error['input'])}: {alternatives or _requirement(error)}"


def _field_at(kind: type[BaseModel], location: Location) -> tuple[Location, str | None]:
    """The place of an error. A field with alternatives is told of once, by what it must be: that
    each of them is not met is pydantic's business, not the user's."""
    inner: type[BaseModel] | None = kind
    for depth, part in enumerate(location, start=1):
        field = inner.model_fields.get(str(part)) if inner else None
        if field is None:
            break
        words = must_of(field)
        if words is not None:
            return location[:depth], f"must be {words}"
        inner = next(_models_in(field.annotation), None)
    return location, None


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    parts = (annotation, *get_args(annotation))
    yield from (p for p in parts if isinstance(p, type) and issubclass(p, BaseModel))


def _requirement(error: ErrorDetails) -> str:
    words = {
        "string_pattern_mismatch": "must match the pattern {pattern}",
        "greater_than_equal": "must be at least {ge}",
        "greater_than": "must be more than {gt}",
        "less_than_equal": "must be at most {le}",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "list_type": "must be a list",
        "too_short": "must have at least {min_length} of them",
        "too_long": "must have at most {max_length} of them",
        "bool_type": "must be true or false",
        "string_type": "must be a string",
        "literal_error": "must be {expected}",
        "model_type": "must be an object",
        "string_too_long": "must be at most {max_length} characters long",
        "string_too_short": "must not be empty",
        "value_error": "{error}",
    }
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] in _NAMES:
        return _NAMES[error["ctx"]["pattern"]]
    template = words.get(error["type"])
    if template is None:
        return str(error["msg"])
    return template.format(**error.get("ctx", {}))


#: Characters of a wrong value that are shown.
_SHOWN = 60
_NAME = "must be made of letters, digits, '.', '_' and '-', and not start with '-' or '.'"
#: What is said of the patterns of names.
_NAMES = {
    NAME_PATTERN: _NAME,
    NAMES_PATTERN: f"{_NAME}; or be several such names with commas between them",
}


def _shorten(value: object) -> str:
    text = ascii(value) if not isinstance(value, (dict, list)) else type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _suggestion(kind: type[BaseModel], location: Location) -> str:
    """The same key elsewhere, else the nearest one: in the same object first, then anywhere."""
    import difflib  # not for recipes that are right

    wrong = str(location[-1])
    known = list(key_paths(kind))
    for path in known:
        if path.rpartition(".")[2] == wrong:
            return f"; did you mean {path}?"
    parent = ".".join(str(part) for part in location[:-1])
    here = [path for path in known if path.rpartition(".")[0] == parent]
    for candidates in (here, known):
        names = {path.rpartition(".")[2].lower(): path for path in reversed(candidates)}
        match = difflib.get_close_matches(wrong.lower(), names, n=1, cutoff=0.6)
        if match:
            return f"; did you mean {names[match[0]]}?"
    allowed = ", ".join(path.rpartition(".")[2] for path in here)
    return f"; known here: {allowed}" if allowed else ""


def key_paths(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The JSON path of every key that `kind` knows, outer keys first."""
    for name, field in kind.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path
        for part in _models_in(field.annotation):
            yield from key_paths(part, f"{path}.")


def count(lines: list[str]) -> str:
    """How many errors there are, in words."""
    return f"{len(lines)} error" + ("s" if len(lines) > 1 else "")
