"""Rendering of job scripts. Every value that reaches bash is quoted unless it says otherwise."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hpc.files import PROJECT


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


def directive(pair: tuple[str, str | None]) -> Raw:
    """One #SBATCH line. sbatch takes quotes there as a shell would, and nothing else of it.

    Raises ValueError for a value that does not stay on its line.
    """
    option, value = pair
    if not f"{option}{value or ''}".isprintable():
        raise ValueError(f"{option}={value!r} does not fit on a line")
    if value is None:
        return Raw(f"#SBATCH {option}")
    if not re.fullmatch(r"[\w@%+=:,./{}\[\]-]*", value, re.ASCII):
        value = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return Raw(f"#SBATCH {option}={value}")


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
    environment.filters["directive"] = directive
    return environment


def render(template: str, **values: object) -> str:
    """The text of templates/`template`. Raises jinja2.UndefinedError for a missing value."""
    return _environment().get_template(template).render(**values)
