"""Reading JSON strictly and writing files that no reader ever sees half of."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from contracts.errors import OrchError, UsageError
from contracts.json_object import JsonObject, finite, no_constant

#: Where orch.py is.
PROJECT = Path(__file__).resolve().parent.parent
#: A recipe or profile is a page of text; anything larger was named by mistake.
MAX_JSON_BYTES = 1_000_000


def expanded(path: str) -> Path:
    """Return a path with `~` as a home; as it stands if there is no such user, where Path's own
    method raises what is no OSError."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def read_json_strictly(path: Path, what: str) -> object:
    """Parse `path` as JSON, refusing what lenient parsers let through.

    Refused: duplicate keys, NaN and Infinity, numbers that would become one, a byte-order mark,
    bytes that are not UTF-8, more than `MAX_JSON_BYTES`. `what` names the file's role in the
    message ("recipe").

    Raises UsageError.
    """
    text = _decode(_read_bytes(path, what), path, what)
    try:
        return json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=no_constant,
            parse_float=finite,
        )
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{what} {path} is not valid JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}; correct it there."
        ) from error
    except RecursionError as error:
        raise UsageError(f"{what} {path} is nested too deeply to be a {what}.") from error
    except ValueError as error:
        raise UsageError(f"{what} {path} is not usable: {error}.") from error


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{what} {path} cannot be read: {cause}; check the path.") from error
    if len(data) > MAX_JSON_BYTES:
        raise UsageError(f"{what} {path} is larger than {MAX_JSON_BYTES} bytes; is it a {what}?")
    return data


def _decode(data: bytes, path: Path, what: str) -> str:
    if not data.strip():
        raise UsageError(f"{what} {path} is empty; see recipe_ex/ for examples.")
    if data.startswith(b"\xef\xbb\xbf"):
        raise UsageError(f"{what} {path} starts with a byte-order mark; save it as plain UTF-8.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{what} {path} is not UTF-8 (byte {error.start}); save it as UTF-8."
        ) from error


def _no_duplicates(pairs: list[tuple[str, object]]) -> JsonObject:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is given twice in one object")
        result[key] = value
    return result


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, never a part.

    Raises OrchError (exit code 4) naming the path if the disk is full or not writable.
    """
    try:
        write_whole(path, [text], mode)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> FileError:
    """Return what to say of a file in the output directory."""
    return FileError(
        f"cannot write {path}: {error.strerror}; make room or choose another place with "
        "--output-dir."
    )


def write_whole(path: Path, parts: Iterable[str], mode: int | None = None) -> None:
    """Write a text in parts likewise; its mode is what the umask leaves when none is given.

    Raises OSError.
    """
    # Named before it is there, so that it goes whenever we are interrupted.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = os.open(temporary, how, 0o666 if mode is None else 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(parts)
            if mode is not None:
                os.fchmod(handle, mode)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it is not there as a rule
            temporary.unlink()


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, if it is not there. Raises FileError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make the folder {path}: {error.strerror}; make room, or choose another place "
            "with --output-dir."
        ) from error


def remove_whole(path: Path) -> None:
    """Remove such a file, if it is there, and what was being written there when its writer was
    killed. Raises OSError."""
    for one in (path, *path.parent.glob(f".{path.name}.{'?' * len(uuid.uuid4().hex)}")):
        one.unlink(missing_ok=True)


class FileError(OrchError):
    """A file of ours could not be written."""

    exit_code = 4
