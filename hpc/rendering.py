"""Rendering of job scripts. Every value that reaches bash is quoted unless it says otherwise."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contracts.files import PROJECT


class Raw(str):
    """Text that is already fit for its place in a script."""

    __slots__ = ()


def quote(value: object) -> str:
    """`value` as one word of bash; Jinja calls this for every expression of a template."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int, Path)):
        raise TypeError(f"a template put out a {type(value).__name__}; it must be text or a number")
    return shlex.quote(str(value))


def comment(line: str) -> Raw:
    """A line for the scheduler, as it is. Raises ValueError for one that bash would run."""
    if not line.startswith("#") or not line.isprintable():
        raise ValueError(f"{line!r} is not a line of comment")
    return Raw(line)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PROJECT / "templates"),
        undefined=StrictUndefined,
        finalize=quote,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["comment"] = comment
    return environment


def render(template: str, **values: object) -> str:
    """The text of templates/`template`. Raises jinja2.UndefinedError for a missing value."""
    return _environment().get_template(template).render(**values)
