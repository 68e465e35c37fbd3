"""What values must be: rules that pydantic checks, and the same in words.

A model's rules are told to people in three places: to who wrote a recipe, to who sent a body, to
who typed a command line. Each has its own way to name a key, and all have the words from here.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import ErrorDetails, InitErrorDetails

from contracts.json_object import JsonObject

#: Of what people write: nothing is guessed, and no key is passed over.
STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)
#: The key by which a file names its own schema.
SchemaAddress = Annotated[
    Annotated[str, Field(max_length=500)] | None,
    Field(alias="$schema", description="Where editors find this schema."),
]


@dataclass(frozen=True)
class Must:
    """What a value must be, in words, for a rule that is more than a kind and two bounds; among the
    annotations of its type."""

    words: str


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: Of a whole number, after its bounds: 4.0 is one, as it is for JSON Schema.
WHOLE = BeforeValidator(_whole)


def text_of_bytes(limit: int) -> Callable[[object], str]:
    """Return a check of a text: 1 to `limit` bytes of UTF-8. It may hold half of a surrogate pair,
    as JSON may and pydantic's own texts may not. The check raises ValueError."""

    def check(value: object) -> str:
        if isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogatepass")) <= limit:
            return value
        raise ValueError(f"must be a text of 1 to {limit} bytes")

    return check


def few(limit: int) -> BeforeValidator:
    """Return a check of an object or a list, to stand after its bounds: one of more than `limit`
    members is refused before any of them is validated, since pydantic would name what is wrong with
    each."""

    def check(value: object) -> object:
        if isinstance(value, (dict, list)) and len(value) > limit:
            raise ValueError(f"must have at most {limit} members")
        return value

    return BeforeValidator(check)


class Sentence(ValueError):
    """What is wrong, in words that need no field and no value before them: `{}` stands in
    `template` for each of the fields' names."""

    def __init__(self, template: str, *fields: str) -> None:
        super().__init__(template.format(*fields))
        self._template, self._fields = template, fields

    def naming(self, show: Callable[[str], str]) -> str:
        """Return the words with the names that the reader knows."""
        return self._template.format(*map(show, self._fields))


def sentences(
    error: ValidationError,
    kind: type[BaseModel],
    given: JsonObject,
    show: Callable[[str], str] = lambda name: name,
) -> list[str]:
    """Return what is wrong with what was given for a `kind`: a sentence for each of its fields, and
    those on how fields go together. `show`: what the reader calls a field."""
    found = error.errors(include_url=False, include_input=False)
    return [
        what.naming(show) if isinstance(what, Sentence) else _sentence(what, kind, given, show)
        for what in dict.fromkeys(map(_what, found))
        if isinstance(what, Sentence) or what in given or kind.model_fields[what].is_required()
    ]


def _what(error: ErrorDetails) -> Sentence | str:
    """A sentence as it is, or the name of the field that something is wrong with."""
    cause = error.get("ctx", {}).get("error")
    return cause if isinstance(cause, Sentence) else str(error["loc"][0])


def _sentence(
    name: str, kind: type[BaseModel], given: JsonObject, show: Callable[[str], str]
) -> str:
    if name not in given:
        return f"{show(name)} is missing"
    return f"{show(name)} is {shown(given[name])}, but must be {must_be(kind, name)}"


def first_problem(error: ValidationError) -> str:
    """Return the place in the JSON at which something is wrong first, and what."""
    why = error.errors()[0]
    return f"{'.'.join(map(str, why['loc']))}: {why['msg']}"


def shown(value: object) -> str:
    """Return a value as JSON, of at most 80 characters."""
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def must_be(kind: type[BaseModel], name: str) -> str:
    """Return what the field of that name (as JSON has it) must be, in words."""
    fields = {field.alias or key: field for key, field in kind.model_fields.items()}
    field = fields[name]
    words = next(_stated(field.metadata, field.annotation), None)
    return words or _words(_properties(kind)[name])


def _stated(metadata: Iterable[object], annotation: object) -> Iterator[str]:
    """The words of a Must among the annotations of a type, or of one of its alternatives."""
    yield from (one.words for one in metadata if isinstance(one, Must))
    for part in get_args(annotation):
        yield from _stated(getattr(part, "__metadata__", ()), part)


def must_of(field: FieldInfo) -> str | None:
    """Return the words of a field with alternatives: pydantic says of each why it is not that."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    return next(_stated(field.metadata, None), None) if len(kinds) > 1 else None


def plain_text(kind: type[BaseModel], name: str) -> bool:
    """Return whether the field of that name takes texts alone."""
    schema = _properties(kind)[name]
    kinds = {one.get("type") for one in schema.get("anyOf", [schema])}
    return kinds <= {"string", "null"}


@functools.cache
def _properties(kind: type[BaseModel]) -> JsonSchemaValue:
    found: JsonSchemaValue = kind.model_json_schema()["properties"]
    return found


def _words(schema: JsonSchemaValue) -> str:
    """What a JSON Schema asks for, if there is no more to it than a kind and its bounds."""
    if "anyOf" in schema:
        return " or ".join(_words(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return " or ".join(schema["enum"])
    kind = schema.get("type")
    if kind == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    if kind == "number" and "minimum" in schema:
        return f"a number from {schema['minimum']:g} to {schema['maximum']:g}"
    if kind == "number":
        low, high = schema["exclusiveMinimum"], schema["maximum"]
        return f"a number of more than {low:g} and at most {high:g}"
    return {"boolean": "true or false", "object": "an object"}.get(str(kind), str(kind))


def with_more(
    error: ValidationError | None, more: Iterable[tuple[str, Sentence, object]]
) -> ValidationError:
    """Return `error` with `more` added: field ("" for the whole), words, value."""
    found: list[InitErrorDetails] = []
    for one in error.errors(include_url=False) if error else ():
        details = InitErrorDetails(type=one["type"], loc=one["loc"], input=one["input"])
        found.append(details | {"ctx": one["ctx"]} if "ctx" in one else details)
    for name, words, value in more:
        place = (name,) if name else ()
        ctx = {"error": words}
        found.append(InitErrorDetails(type="value_error", loc=place, input=value, ctx=ctx))
    return ValidationError.from_exception_data("the load", found)
