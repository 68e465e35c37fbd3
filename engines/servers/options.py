"""What a recipe may tell an engine beyond its model: the table that each engine's module fills.

A recipe names an option as the field does (`job.service.num_batch`), the engine by a word of its
own: a variable of its environment, a parameter of a model, an argument.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field


@dataclass(frozen=True)
class Variable:
    """A variable of an engine's environment that recipes may set: the pydantic type of its values,
    and what it is for."""

    kind: Any
    meaning: str


@dataclass(frozen=True)
class Options:
    """What an engine knows. What is not here is refused by its name."""

    #: Keys of job.service, each with the engine's word for it.
    keys: Mapping[str, str] = field(default_factory=dict)
    #: Of keys of which it does not take all values, those that it takes.
    values: Mapping[str, Collection[object]] = field(default_factory=dict)
    #: Keys of job.service.sampling, likewise.
    sampling: Mapping[str, str] = field(default_factory=dict)
    #: What job.service.env may name: nothing that moves paths, ports, origins or tokens.
    variables: Mapping[str, Variable] = field(default_factory=dict)
    #: What it must not name, since a deployment sets it by itself.
    own: Collection[str] = ()

    @property
    def set_elsewhere(self) -> dict[str, str]:
        """What sets a variable in place of job.service.env, by the variable's name."""
        by_keys = {word: f"job.service.{key}" for key, word in self.keys.items()}
        return {**dict.fromkeys(self.own, "the deployment itself"), **by_keys}

    def refused(self, key: str, value: object) -> str:
        """Return which value of a key the engine does not take, and what it takes; else ""."""
        taken = self.values.get(key)
        if taken is None or value in taken:
            return ""
        return f"{key} {value!r}, but {' or '.join(map(repr, taken))}"

    def unknown(self, key: str, names: Mapping[str, object]) -> Iterator[str]:
        """Yield which of the names under "sampling" or "env" of a recipe the engine lacks."""
        known = self.sampling if key == "sampling" else self.variables
        return (name for name in names if name not in known)


def text_of(value: object) -> str:
    """Return the value of a variable as the environment has it: 1 and 0 for true and false."""
    return str(int(value) if isinstance(value, bool) else value)


# --- kinds of values -----------------------------------------------------------------------------


def _number(value: object) -> object:
    """Variables are texts, and people write numbers so."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        return int(value)
    return value


def _level(value: object) -> object:
    """A number that is also written as true or false."""
    known: dict[object, int] = {True: 1, False: 0, "true": 1, "false": 0}
    return known[value] if isinstance(value, (bool, str)) and value in known else _number(value)


def _switch(value: object) -> object:
    """What engines take for true and false."""
    known: dict[object, bool] = {"1": True, "0": False, "true": True, "false": False}
    if isinstance(value, (int, str)):
        return known.get(str(value).lower(), value)
    return value


def _like(pattern: str, words: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


def number(low: int, high: int) -> Any:
    """Return the type of a whole number, also as a text."""
    return Annotated[int, Field(ge=low, le=high), BeforeValidator(_number)]


def level(high: int) -> Any:
    """Return the type of a number from 0 that is true or false where 1 is enough."""
    return Annotated[int, Field(ge=0, le=high), BeforeValidator(_level)]


SWITCH = Annotated[bool, BeforeValidator(_switch)]
#: What is on if it is there at all, whatever its value.
ON = Annotated[Literal[1], BeforeValidator(_level)]
DURATION = Annotated[str, Field(max_length=8), _like(r"[0-9]+(s|m|h)", "a time: 90s, 10m or 1h")]
LIBRARY = Annotated[
    str, Field(max_length=32), _like(r"[a-z0-9_]+", "the name of a library, such as cuda_v12")
]
NAME = Annotated[str, Field(max_length=32), _like(r"[A-Za-z0-9_]+", "a word")]
VERSION = Annotated[
    str, Field(max_length=16), _like(r"[0-9]+\.[0-9]+\.[0-9]+", "a version such as 10.3.0")
]
