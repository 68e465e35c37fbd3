"""What lets a browser in: a link that works once, and the session that it begins.

Each is a file of mode 600 in the deployment's folder, named by the digest of its word, so that a
successor of the job knows it, too. The word itself is kept nowhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.files import write_whole
from contracts.job_files import fresh
from contracts.named_tokens import ANYBODY, OWNER, NamedToken, digest_of, new_token

#: How many of one name there may be; of more the oldest ends.
MOST_OF_A_NAME = 16
_SUFFIX = ".json"


class Pass(BaseModel):
    """Whose it is, and until when. `token`: the digest of the token by which it was asked for,
    without which it opens nothing; None: the owner's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    user: str
    token: str | None = Field(None, pattern=r"[0-9a-f]{64}")
    created: float
    expires: float

    def valid(self, now: float, tokens: Mapping[str, NamedToken]) -> bool:
        """Return whether it opens anything, with the tokens that there are."""
        if now >= self.expires:
            return False
        if self.user in (OWNER, ANYBODY):
            return True
        token = tokens.get(self.user)
        return token is not None and token.valid(now) and token.sha256 == self.token


class Passes:
    """Those of one kind, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Pass] = {}  # what is written once, and never changed

    def add(self, given: Pass) -> str:
        """Return the word of a new one. Raises FileError, OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prune(given.user)
        word = new_token()
        write_whole(self._file(digest_of(word)), [given.model_dump_json()], 0o600)
        return word

    def take(self, word: str) -> Pass | None:
        """Return what a word stands for, which it does no more; None if it did not. Of two that
        ask at once, one has it. Raises OSError."""
        file = self._file(digest_of(word))
        found = _read(fresh(file))
        try:
            file.unlink()
        except FileNotFoundError:
            return None
        return found

    def all(self) -> Mapping[str, Pass]:
        """Return those that there are, by their digests. Raises OSError."""
        there = set(self._digests())
        for digest in there - self._known.keys():
            found = _read(self._file(digest))
            if found is not None:
                self._known[digest] = found
        self._known = {digest: one for digest, one in self._known.items() if digest in there}
        return self._known

    def _prune(self, user: str) -> None:
        """Remove what has expired, and the oldest of a name that has many."""
        now = time.time()
        by_age = sorted(self.all().items(), key=lambda item: item[1].created)
        theirs = [digest for digest, one in by_age if one.user == user]
        gone = {digest for digest, one in by_age if now >= one.expires}
        for digest in gone.union(theirs[: max(0, len(theirs) - MOST_OF_A_NAME + 1)]):
            self._file(digest).unlink(missing_ok=True)

    def _digests(self) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):  # there has been none yet
            for file in fresh(self._folder / ".").iterdir():
                if file.suffix == _SUFFIX:  # those that are being written have another
                    yield file.stem

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest}{_SUFFIX}"


def links_of(deployment_folder: Path) -> Passes:
    """Return the one-time links of a deployment."""
    return Passes(deployment_folder / "links")


def sessions_of(deployment_folder: Path) -> Passes:
    """Return the sessions of a deployment's browsers."""
    return Passes(deployment_folder / "sessions")


def _read(file: Path) -> Pass | None:
    """What a file holds; None if it is gone, or damaged. Raises OSError."""
    try:
        return Pass.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
