"""JSON that somebody else made: a server, a file of another version, a user. It knows neither NaN
nor Infinity, which Python reads and writes all the same, and makes of a number that is too large.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import NoReturn, TypeAlias

#: Nothing may be done with a value in it before it was looked at. What is ours has types of its
#: own.
JsonObject: TypeAlias = Mapping[str, object]
#: What no JSON has, and a number that is no double has somewhere. Texts may have it, too.
_SUSPECT = re.compile(rb"NaN|Infinity|[0-9.]{200}|[0-9.][eE]\+?[0-9]{3}")


def no_constant(word: str) -> NoReturn:
    """Refuse what JSON does not know; for `parse_constant` of json.loads. Raises ValueError."""
    raise ValueError(f"{word} is not a number that JSON knows")


def finite(digits: str) -> float:
    """Return a number; for `parse_float` of json.loads. Raises ValueError: it is too large."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return value


def load_finite(text: str | bytes) -> object:
    """Return what JSON says. Raises ValueError, which names a number that cannot go on as JSON, and
    RecursionError."""
    return json.loads(text, parse_float=finite, parse_constant=no_constant)


def check_numbers(data: bytes) -> None:
    """Raise the same of JSON that is read by faster means, which let such numbers through."""
    if _SUSPECT.search(data):
        load_finite(data)
