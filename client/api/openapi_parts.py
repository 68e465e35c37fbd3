"""What descriptions of routes are made of, as OpenAPI has it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.json_schema import JsonSchemaValue as Schema

REFERENCE = "#/components/schemas/{model}"
#: What a body can do wrong, by status.
BODY_ERRORS = {
    400: "The body is not what it must be; the message names all that is wrong.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
}


def operation(
    name: str, summary: str, answers: Schema, wrong: Mapping[int, str | None], body: str = ""
) -> Schema:
    """Return what is asked of a route; `wrong`: what can go wrong, by status; `body`: a model."""
    content = {"application/json": {"schema": named(body)}}
    asked = {"requestBody": {"required": True, "content": content}} if body else {}
    failures = {str(status): in_json(str(text), named("Error")) for status, text in wrong.items()}
    responses = {**answers, **failures}
    return {"operationId": name, "summary": summary, **asked, "responses": responses}


def in_json(text: str, schema: Schema) -> Schema:
    """Return an answer in JSON; `text` says when it comes."""
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def named(name: str) -> Schema:
    """Return a reference to a model."""
    return {"$ref": REFERENCE.format(model=name)}


def any_of(*names: str) -> Schema:
    """Return that it is one of these models."""
    return {"anyOf": [named(name) for name in names]}
