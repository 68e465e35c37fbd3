"""Rendering of job scripts. Every value that reaches bash is quoted unless it says otherwise."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket

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


class _Compiled(FileSystemBytecodeCache):
    """Templates as Python has them, kept beside them: compiling them is a sixth of a dry run."""

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a template, if there is room for it."""
        with contextlib.suppress(OSError):
            super().dump_bytecode(bucket)


def _compiled(templates: Path) -> _Compiled | None:
    """None if nothing is to be kept there: the project is somebody else's, say."""
    folder = templates / "__pycache__"
    if sys.dont_write_bytecode:
        return None
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
    # What is there is run: it must be from who may change the project's modules, too.
    return _Compiled(str(folder)) if folder.is_dir() and os.access(folder, os.W_OK) else None


@cache
def environment_of(templates: Path) -> Environment:
    """What renders the templates of a folder."""
    environment = Environment(
        loader=FileSystemLoader(templates),
        bytecode_cache=_compiled(templates),
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
    return environment_of(PROJECT / "templates").get_template(template).render(**values)
