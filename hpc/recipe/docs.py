"""Writes what is generated from the recipe's types: `python3 -m hpc.recipe.docs`.

recipe.schema.json, campaign.schema.json, site.schema.json for editors, docs/recipe.md for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaValue

from campaign.file import CampaignFile
from contracts.files import PROJECT
from hpc.recipe.schema import Recipe
from hpc.site import Site

_INTRO = """# The recipe

One JSON file says what to deploy. This page is generated from the types in
`hpc/recipe/` by `python3 -m hpc.recipe.docs`; so are the schemas that editors use for
completion (`"$schema": "../recipe.schema.json"`). Unknown keys are errors. Examples: `recipe_ex/`.
"""

_SITE_INTRO = """# The site profile

What differs between clusters; `sites/NAME.json`, or any path given to `--site`. What the recipe
says goes before what the profile says. Examples: `sites/`.
"""


def generated() -> dict[Path, str]:
    """The text of every generated file, by its path."""
    return {
        PROJECT / "recipe.schema.json": _schema(Recipe),
        PROJECT / "campaign.schema.json": _schema(CampaignFile),
        PROJECT / "site.schema.json": _schema(Site),
        PROJECT / "docs" / "recipe.md": "\n".join(
            [_INTRO, *_table(Recipe), "", _SITE_INTRO, *_table(Site), ""]
        ),
    }


def _schema(kind: type[BaseModel]) -> str:
    schema = kind.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"


def _table(kind: type[BaseModel]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    schema = kind.model_json_schema(by_alias=True)
    yield from _rows(schema, schema, "")


def _rows(schema: JsonSchemaValue, part: JsonSchemaValue, prefix: str) -> Iterator[str]:
    for name, field in part["properties"].items():
        path = f"{prefix}{name}"
        reference = _reference(field)
        if reference and "$ref" not in field:  # it may be left out: what it means is to be said
            yield f"| `{path}` | object |  | {field['description']} |"
        if reference:
            yield from _rows(schema, schema["$defs"][reference.rpartition("/")[2]], f"{path}.")
            continue
        required = name in part.get("required", [])
        default = "**required**" if required else f"`{json.dumps(field.get('default'))}`"
        default = default.replace("`null`", "")
        yield f"| `{path}` | {_type(field)} | {default} | {field.get('description', '')} |"


def _reference(field: JsonSchemaValue) -> str | None:
    """Where the section is described that a field is, or may be."""
    parts = [field, *field.get("anyOf", [])]
    return next((part["$ref"] for part in parts if "$ref" in part), None)


def _type(field: JsonSchemaValue) -> str:
    alternatives = [_type(a) for a in field.get("anyOf", []) if a.get("type") != "null"]
    if alternatives:
        return " or ".join(alternatives)
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    low, high = field.get("minimum"), field.get("maximum")
    bounds = f", {low} to {high}" if low is not None and high is not None else ""
    if "exclusiveMinimum" in field:
        bounds = f", more than {field['exclusiveMinimum']:g} to {high:g}"
    return f"{field.get('type', 'object')}{bounds}"


def main() -> None:
    """Write the files."""
    for path, text in generated().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
