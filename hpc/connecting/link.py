"""A link by which a browser opens the page of a deployment, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contracts.errors import ServiceError
from hpc.web import call


@dataclass(frozen=True)
class Link:
    """The URL, and until when it is good (s since the epoch)."""

    url: str
    expires: float


def make_link(url: str, token: Path) -> Link:
    """Have the door at a URL make one for who has the token. Raises ServiceError, NoAnswer."""
    answer = call("POST", f"{url}/links", token_file=token)
    path, expires = answer.json.get("path"), answer.json.get("expires")
    if (
        answer.status != 201
        or not (isinstance(path, str) and path.startswith("/"))
        or not isinstance(expires, (int, float))
    ):
        raise ServiceError(f"{url} gives no link: {answer.error}.")
    return Link(f"{url}{path}", expires)
