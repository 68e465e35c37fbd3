"""Tokens that the owner of a deployment gives to others, each by a name.

Each is a file of its own, written once and whole: one that is there is valid until it expires, and
one that is removed is revoked. A file holds the digest of its token, never the token.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import string
import uuid
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.files import write_whole
from contracts.job_files import fresh, internal_token_file

#: Who sends the deployment's own tokens: user.token, and internal.token.
OWNER, OWN_PARTS = "owner", "deployment"
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?")
_SUFFIX = ".json"


class NameTaken(ValueError):
    """There is a token of that name."""


class NamedToken(BaseModel):
    """A token: its SHA-256, and what its bearer may; None is no limit. Times are Unix times."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern=r"[0-9a-f]{64}")
    created: float
    expires: float | None = None
    in_flight: int | None = Field(None, ge=1)
    per_minute: int | None = Field(None, ge=1)

    def valid(self, now: float) -> bool:
        """Return whether it has not expired."""
        return self.expires is None or now < self.expires


class Used(BaseModel):
    """What one name has used: requests that have ended, their seconds from the first byte in to
    the last one out, and tokens if they were counted."""

    requests: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Usage(BaseModel):
    """The same by names."""

    users: dict[str, Used] = Field(default_factory=dict)


def new_token() -> str:
    """Return a random word of letters and digits, as long as those of lib/haproxy.sh: 256 bits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(43))


def digest_of(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def tokens_folder(output: Path, deployment: str) -> Path:
    """Return where the tokens of a deployment are that have names."""
    return internal_token_file(output, deployment).parent / "tokens"


def usage_file(output: Path, deployment: str) -> Path:
    """Return where the client service writes what each name has used."""
    return internal_token_file(output, deployment).parent / "usage.json"


def read_usage(path: Path) -> Usage:
    """Return what a usage file holds; nothing if there is none, or it is damaged."""
    try:
        return Usage.model_validate_json(fresh(path).read_bytes())
    except (OSError, ValidationError):
        return Usage()


def read_tokens(folder: Path) -> Mapping[str, NamedToken]:
    """Return the tokens of a folder by their names; a file that is none opens nothing.

    Raises OSError if the folder cannot be read; one that is not there has none.
    """
    found = {}
    try:
        files = sorted(folder.iterdir())
    except FileNotFoundError:
        return {}
    for file in files:
        if file.suffix == _SUFFIX and NAME.fullmatch(file.stem):
            try:
                found[file.stem] = NamedToken.model_validate_json(file.read_bytes())
            except (FileNotFoundError, ValidationError):
                continue  # revoked just now, or damaged
    return found


def keep_token(folder: Path, name: str, token: NamedToken) -> None:
    """Write a token down. Raises NameTaken, OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    own = folder / f".{uuid.uuid4().hex}"
    try:
        write_whole(own, [token.model_dump_json()], 0o600)
        os.link(own, _file(folder, name))  # never over another one's
    except FileExistsError as error:
        raise NameTaken(name) from error
    finally:
        own.unlink(missing_ok=True)


def remove_token(folder: Path, name: str) -> None:
    """Revoke a token. Raises FileNotFoundError if there is none of that name, OSError."""
    _file(folder, name).unlink()


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}{_SUFFIX}"
