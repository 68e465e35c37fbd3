"""Headers and keys that a server asks for: how they are given, and that nobody gets to see them.

They are in this program's memory and in what goes to the server; the processes that it forks have
them by that. What is written or said has their names alone.
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.errors import UsageError
from engines.registry import ENGINES

#: Where an API's users have their key, as its own programs look for it.
KEY_VARIABLES = {api: engine.key_variable for api, engine in ENGINES.items() if engine.key_variable}
HIDDEN = "***"

Headers = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TOKEN = re.compile(r"[\x21-\x7e]+")
#: How a request and its answer are told from the next ones is not to be had otherwise.
_OURS = {"content-length", "transfer-encoding", "connection", "accept-encoding", "expect", "te"}
#: Of a shorter word nobody can tell whether it is a secret or says something.
_SHORT = 8
#: So much of a secret's beginning is no more said, where a text was cut within it.
_TELLING = 4


def headers_of(
    given: Sequence[str], token_file: Path | None, api: str, environment: Mapping[str, str]
) -> tuple[Headers, list[str]]:
    """Return what requests have beside our own, and sentences on files that others can read.

    A key is that of `token_file`, else the one that the API's variable has, if no header says
    who we are. Raises UsageError, which names no value.
    """
    warnings: list[str] = []
    found = [header for one in given for header in _given(one, warnings)]
    named = any(name.lower() == "authorization" for name, _ in found)
    if token_file is not None:
        if named:
            raise UsageError("--token-file and --header both give Authorization; give one of them.")
        found.append(_bearer(_read(token_file, "--token-file", warnings), str(token_file)))
    elif not named:
        variable = KEY_VARIABLES.get(api, "")
        if environment.get(variable, "").strip():
            found.append(_bearer(environment[variable], f"${variable}"))
    return tuple(found), warnings


def _given(text: str, warnings: list[str]) -> list[tuple[str, str]]:
    """One header, or those of a file, one a line (as curl has it)."""
    if not text.startswith("@"):
        return [_header(text, "--header")]
    path = Path(text[1:])
    lines = _read(path, "--header @", warnings).split("\n")
    return [_header(line.rstrip("\r"), str(path)) for line in lines if line.strip()]


def _header(text: str, where: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise UsageError(f"{where} is to be 'Name: value'; what it is now is not shown.")
    if not _VALUE.fullmatch(value):
        raise UsageError(f"{where}: the value of {name} has a line end or a control character.")
    if name.lower() in _OURS:
        raise UsageError(f"{where}: {name} is the load generator's own; leave it out.")
    return name, value.strip()


def _bearer(text: str, where: str) -> tuple[str, str]:
    token = text.strip().removeprefix("Bearer ").strip()
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{where} is to hold one key and nothing else: a word without blanks.")
    return "Authorization", f"Bearer {token}"


def _read(path: Path, option: str, warnings: list[str]) -> str:
    """A file's text; a warning if it is a file that others than its owner can read."""
    try:
        text = path.read_text("utf-8-sig")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{option} {path} cannot be read: {why}.") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        warnings.append(f"others can read {path}, which has a secret: chmod 600 {path}.")
    return text


# --- not to be shown ---


class Mask:
    """Hides the headers' values in texts that a server sent: some repeat a key that they refuse."""

    def __init__(self, headers: Headers) -> None:
        self._secrets = sorted({s for _, value in headers for s in _secrets(value)}, key=len)[::-1]
        found = [re.escape(s) if len(s) >= _SHORT else rf"(?<!\w){re.escape(s)}(?!\w)"
                 for s in self._secrets]  # fmt: skip
        self._pattern = re.compile("|".join(found)) if found else None

    def __call__(self, text: str) -> str:
        """The text without them; nor with the first part of one, where the text was cut there."""
        if self._pattern is None:
            return text
        text = self._pattern.sub(HIDDEN, text)
        whole = text.rstrip("'\"")  # a cut piece is quoted at times
        for secret in self._secrets:
            for length in range(len(secret) - 1, _TELLING - 1, -1):
                if whole.endswith(secret[:length]):
                    return whole[:-length] + HIDDEN
        return text


def _secrets(value: str) -> set[str]:
    """A value and its words (the key after Bearer, the password in Basic)."""
    words = value.split()
    found = {value, *(words[1:] or words)}
    if len(words) == 2 and words[0].lower() == "basic":
        try:
            found.add(base64.b64decode(words[1]).decode().partition(":")[2])
        except (binascii.Error, UnicodeDecodeError):
            pass
    return {secret for secret in found if secret}


def hide_values(words: Sequence[str]) -> list[str]:
    """Return a command line's words, of headers the names alone."""
    shown, option = [], ""
    for word in words:
        name, equals, value = word.partition("=")
        if option == "--header":
            shown.append(_hidden(word))
        elif name == "--header" and equals:
            shown.append(f"{name}={_hidden(value)}")
        else:
            shown.append(word)
        option = word
    return shown


def _hidden(header: str) -> str:
    return header if header.startswith("@") else f"{header.partition(':')[0]}: {HIDDEN}"
