"""What pydantic does not know of the schemas of bodies: null, and how fields go together."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaValue as Schema

from contracts.knobs import Load, Valued

_NULL: Schema = {"type": "null"}


def complete(schema: Schema, kind: type[BaseModel]) -> None:
    """Add to a body's schema what pydantic does not know: null counts as not given, and how fields
    go together."""
    for name, part in schema["properties"].items():
        if name not in schema.get("required", ()):
            schema["properties"][name] = _or_null(part)
    if issubclass(kind, Load):
        # With those of `prompts`, too, no tool that makes bodies of a schema (schemathesis) could.
        rules = [_not_both(*pair) for pair in kind.EXCLUSIVE if "prompts" not in pair]
        rules += [_not_both_valued(*pair) for pair in kind.EXCLUSIVE_VALUES]
        schema["allOf"] = [*rules, *(_only_with(*pair) for pair in kind.REQUIRES)]


def _or_null(schema: Schema) -> Schema:
    """What a schema allows, or null."""
    about = {"description": schema["description"]}
    rest = {key: value for key, value in schema.items() if key != "description"}
    choices = rest.get("anyOf", [rest])
    return {**about, "anyOf": choices if _NULL in choices else [*choices, _NULL]}


def _not_both(a: str, b: str) -> Schema:
    """At most one of two is given."""
    return {"anyOf": [{"properties": {name: _NULL}} for name in (a, b)]}


def _not_both_valued(*pair: Valued) -> Schema:
    """At most one of two has one of its values; without values: is given."""
    rules = {name: {"not": {"enum": list(values)}} if values else _NULL for name, values in pair}
    return {"anyOf": [{"properties": {name: rule}} for name, rule in rules.items()]}


def _only_with(name: str, others: Sequence[str]) -> Schema:
    """One is not given, or one of the others is."""
    given = [{"required": [o], "properties": {o: {"not": _NULL}}} for o in others]
    return {"anyOf": [{"properties": {name: _NULL}}, *given]}
