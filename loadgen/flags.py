"""The knobs of a load as options of the command line, and back: derived from contracts.load."""

from __future__ import annotations

import argparse
import json

from pydantic import ValidationError

from contracts.errors import UsageError
from contracts.json_object import JsonObject
from contracts.knobs import MAX_SECONDS, SLO_NAMES, Load
from contracts.load import LoadSpec
from contracts.validation import plain_text, sentences

#: What stands for a value in --help, if the option's name does not say it.
_METAVARS = {
    "rate": "R",
    "prompt": "TEXT",
    "think": "true|false|low|medium|high",
    "format": "json|SCHEMA",
    "keep_alive": "T",
    "goodput": "ttft:0.5,itl:0.05",
    "arrivals": "constant|poisson",
    "through": "engines|door",
    **dict.fromkeys(
        ("clients", "requests", "max_concurrency", "processes", "input_tokens", "num_predict"), "N"
    ),
}


def flag(name: str) -> str:
    """Return the option of a knob: of times the unit is left out, all are in seconds."""
    return "--" + name.removesuffix("_seconds").replace("_", "-")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add an option for each knob. Its value stays the text that was given."""
    group = parser.add_argument_group("load")
    # The amount first: what a class has of its own comes last in it.
    for name in sorted(LoadSpec.model_fields, key=lambda name: name in Load.model_fields):
        about = LoadSpec.model_fields[name].description
        metavar = _METAVARS.get(name, "S" if name.endswith("_seconds") else "X")
        group.add_argument(flag(name), dest=name, metavar=metavar, help=about)


def given_load(given: argparse.Namespace) -> JsonObject:
    """Return the values of those options that were given. Raises UsageError."""
    texts = {name: getattr(given, name) for name in LoadSpec.model_fields}
    return {name: _value(name, text) for name, text in texts.items() if text is not None}


def _value(name: str, text: str) -> object:
    """As JSON if the knob is no text and it is JSON, else the text itself: 10m, low."""
    if plain_text(LoadSpec, name):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if name != "goodput":
            return text
    try:
        return limits_of(text)
    except ValueError as error:
        raise UsageError(f"{flag(name)} {text!r} {error}.") from error


def validate_load(load: JsonObject) -> LoadSpec:
    """Return what was given as a load. Raises UsageError with all that is wrong, by option."""
    try:
        return LoadSpec.model_validate(load)
    except ValidationError as error:
        raise UsageError("; ".join(sentences(error, LoadSpec, load, flag)) + ".") from error


def limits_of(slo: str) -> dict[str, float]:
    """Return `ttft:0.5,itl:0.05` as seconds by figure. Raises ValueError."""
    found: dict[str, float] = {}
    for part in slo.replace(" ", "").split(","):
        name, _, limit = part.partition(":")
        try:
            seconds = float(limit)
        except ValueError:
            seconds = 0.0
        if name not in SLO_NAMES or name in found or not 0 < seconds <= MAX_SECONDS:
            raise ValueError(
                f"must be FIGURE:SECONDS with commas between, each of {', '.join(SLO_NAMES)} at "
                f"most once and at most {MAX_SECONDS:g} seconds, such as ttft:0.5,itl:0.05"
            )
        found[name] = seconds
    return found


def flags_of(load: LoadSpec) -> list[str]:
    """Return the options that ask for this load. The prompt, which may be too long for a command
    line and may hold any character, is left out."""
    asked = {name: getattr(load, name) for name in LoadSpec.model_fields if name != "prompt"}
    defaults = {name: field.default for name, field in LoadSpec.model_fields.items()}
    return [
        f"{flag(name)}={_text(name, value)}"
        for name, value in asked.items()
        if value != defaults[name]
    ]


def _text(name: str, value: object) -> str:
    if plain_text(LoadSpec, name):
        return str(value)
    if name == "goodput" and isinstance(value, dict):
        return ",".join(f"{figure}:{_json(limit)}" for figure, limit in value.items())
    return _json(value)


def _json(value: object) -> str:
    """As JSON; 60.0 is 60."""
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
