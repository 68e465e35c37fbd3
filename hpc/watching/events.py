"""The events of a client service, as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from contracts.json_object import JsonObject
from hpc.web import NoAnswer, stream

#: An event: its name, and what it tells.
Event = tuple[str, "JsonObject | list[object] | None"]
#: Seconds without a sign of life, of which there is one each 15, until it is taken for gone.
SILENCE_S = 40.0


def events(url: str, token_file: Path) -> Iterator[Event]:
    """Yield the events of the client service at a URL, until it ends. Raises NoAnswer."""
    name = ""
    for line in stream(f"{url}/events", SILENCE_S, token_file):
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, _parsed(value, url)


def _parsed(text: str, url: str) -> JsonObject | list[object] | None:
    try:
        found: JsonObject | list[object] | None = json.loads(text)
    except ValueError as error:
        raise NoAnswer(f"{url}/events sent what is no event: {text[:100]!r}") from error
    return found
