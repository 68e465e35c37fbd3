"""Who is told that a deployment is ready, and that it has ended: a section of recipe and site."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from hpc.recipe.sections import Section


def check_line(text: str) -> str:
    """Return a text of one line. Raises ValueError."""
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def _check_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not text.isascii() or not text.isprintable() or set(text) & set(' "<>\\^`{|}'):
        raise ValueError("must be a URL that begins with http:// or https://")
    if parts.username is not None:
        raise ValueError("must have no name and password in it: others can read recipe and record")
    return text


Word = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(check_line)]
Url = Annotated[str, Field(max_length=2000), AfterValidator(_check_url)]
Address = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,200}$"),
]
NOTIFY = (
    "Who is told, once, that the deployment is ready, and that it has ended or failed "
    "(docs/idle.md). Whoever cannot be told is a line in the client's log and in `--status`, and "
    "nothing else."
)


class Notify(Section):
    """Who is told that a deployment is ready, and that it has ended or failed."""

    command: Annotated[list[Word], Field(min_length=1, max_length=100)] | None = Field(
        None,
        description="A program and its arguments, run by the client's job, by no shell, for 10 s "
        "at most. Its environment has `ORCH_ID`, `ORCH_STATE` (`ready`, `ended`, `failed`), "
        "`ORCH_ADDRESS` and `ORCH_MODEL`.",
    )
    mail: Address | None = Field(
        None,
        description="Address that Slurm writes to (`--mail-user`) when the client's job begins "
        "and when it ends.",
    )
    webhook: Url | None = Field(
        None,
        description="URL that is sent `id`, `state`, `address`, `model` and `text` as JSON, by "
        "POST, through the site's proxy.",
    )
