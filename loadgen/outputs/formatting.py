"""Numbers and texts as pages have them, and looking into a summary that may lack anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from contracts.json_object import JsonObject

NA = "n/a"


def number(value: float | None, digits: int = 2) -> str:
    """Format with thousands separated; `digits` after the point if it is no whole number; n/a."""
    if value is None:
        return NA
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def with_unit(value: float | None, unit: str) -> str:
    """Format a number and its unit, or n/a alone."""
    return NA if value is None else f"{number(value)} {unit}"


def ms(seconds: float | None) -> str:
    """Format seconds as milliseconds."""
    return NA if seconds is None else number(seconds * 1000.0)


def in_ms(seconds: float | None) -> str:
    """Format seconds as milliseconds, with the unit."""
    return NA if seconds is None else f"{ms(seconds)} ms"


def share(value: float | None) -> str:
    """Format a part of one as a percentage."""
    return NA if value is None else f"{value:.2%}"


def text(value: object) -> str:
    """Format a value of a JSON file as people read it; n/a for what is not there."""
    if value is None or value in ("", [], {}):
        return NA
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(text(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def when(moment: str | None) -> str:
    """Format a moment as the files have it (ISO 8601), to the second."""
    return NA if not moment else f"{moment[:19]}{moment[23:]}".replace("T", " ")


def lookup(data: object, *path: str) -> object:
    """Return what stands at a path of nested objects; None if it does not go so far."""
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def part(data: object, *path: str) -> JsonObject:
    """Return the object that stands at a path; an empty one if none does."""
    found = lookup(data, *path)
    return found if isinstance(found, Mapping) else {}


def find(data: object, *names: str) -> object:
    """Return the first value under one of the names, however deep; None if there is none."""
    level = [data]
    while level:
        for part in level:
            found = [part[name] for name in names if isinstance(part, Mapping) and part.get(name)]
            if found:
                return found[0]
        level = [inner for part in level for inner in _inner(part)]
    return None


def every(data: object, *names: str) -> Sequence[object]:
    """Return all the different values under one of the names, however deep."""
    here = [data[name] for name in names if isinstance(data, Mapping) and data.get(name)]
    deeper = [value for inner in _inner(data) for value in every(inner, *names)]
    return list({text(value): value for value in [*here, *deeper]}.values())


def _inner(data: object) -> Iterable[object]:
    if isinstance(data, Mapping):
        return data.values()
    return data if isinstance(data, list) else ()
