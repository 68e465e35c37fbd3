"""Tokens that the owner of a deployment gives to others, each by a name.

Each is a file of its own, written whole: one that is there is valid until it expires, and one that
is removed is revoked. A file holds the digest of its token, never the token. The token of a login
is replaced by that of the next one; when it is revoked its file stays, and there is no next one.
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
#: What lib/door.cfg calls everybody where no token is needed.
ANYBODY = "anybody"
#: Who needs no file of a token, so that no token of that name could be revoked.
RESERVED = (OWNER, OWN_PARTS, ANYBODY)
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?")
_SUFFIX = ".json"


class NameTaken(ValueError):
    """There is a token of that name."""


class Barred(ValueError):
    """Who logs in has had a token, which was revoked."""


class NamedToken(BaseModel):
    """A token: its SHA-256, and what its bearer may; None is no limit. Times are Unix times."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern=r"[0-9a-f]{64}")
    created: float
    expires: float | None = None
    in_flight: int | None = Field(None, ge=1)
    per_minute: int | None = Field(None, ge=1)
    #: Of a login: who has logged in, and whether that has been revoked.
    uid: int | None = None
    revoked: bool = False

    def valid(self, now: float) -> bool:
        """Return whether it opens anything: it has not expired, nor been revoked."""
        return not self.revoked and (self.expires is None or now < self.expires)


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
            token = _read(file)
            if token is not None:  # else revoked just now, or damaged
                found[file.stem] = token
    return found


def login_payload(deployment: str, address: str) -> bytes:
    """Return what is in the credential of a login: what it is for, and where (`host:port`), so that
    whoever else is shown it can log in nowhere with it."""
    return f"orch login {deployment} {address}".encode()


def keep_token(folder: Path, name: str, token: NamedToken) -> None:
    """Write a token down, perhaps in place of a revoked login's. Raises NameTaken, OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    there = _read(_file(folder, name))
    if there is not None and there.revoked:
        write_whole(_file(folder, name), [token.model_dump_json()], 0o600)
        return
    own = folder / f".{uuid.uuid4().hex}"
    try:
        write_whole(own, [token.model_dump_json()], 0o600)
        os.link(own, _file(folder, name))  # never over another one's
    except FileExistsError as error:
        raise NameTaken(name) from error
    finally:
        own.unlink(missing_ok=True)


def keep_login(folder: Path, name: str, token: NamedToken) -> None:
    """Write down the token of a login, in place of an earlier one's.

    Raises NameTaken: the deployment's owner has given one of that name; Barred, OSError.
    """
    there = _read(_file(folder, name))
    if there is None or there.uid != token.uid:
        keep_token(folder, name, token)
    elif there.revoked:
        raise Barred(name)
    else:
        write_whole(_file(folder, name), [token.model_dump_json()], 0o600)


def remove_token(folder: Path, name: str) -> None:
    """Revoke a token. Raises FileNotFoundError if there is none of that name, OSError."""
    file = _file(folder, name)
    there = _read(file)
    if there is None or there.uid is None:
        file.unlink()
    elif there.revoked:
        raise FileNotFoundError(name)
    else:
        write_whole(file, [there.model_copy(update={"revoked": True}).model_dump_json()], 0o600)


def _read(file: Path) -> NamedToken | None:
    """The token of a file; None if there is none, or it is damaged. Raises OSError."""
    try:
        return NamedToken.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}{_SUFFIX}"
