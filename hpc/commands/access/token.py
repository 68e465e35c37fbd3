"""--token: tokens by name, for those with whom a deployment is shared."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import FileError
from contracts.named_tokens import (
    NAME,
    OWN_PARTS,
    OWNER,
    RESERVED,
    NamedToken,
    NameTaken,
    Used,
    digest_of,
    keep_token,
    new_token,
    read_tokens,
    read_usage,
    remove_token,
    tokens_folder,
    usage_file,
)
from hpc.console import Console, columns
from hpc.deployments.records import Record
from hpc.deployments.refreshing import live_record
from hpc.endpoints import OutputDir
from hpc.times import format_time, parse_duration

_USE = "--token takes: add NAME [ID], list [ID], or revoke NAME [ID]."


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Add, list or revoke. Raises UsageError, FileError, SchedulerError."""
    action, name, deployment = _words(given.token)
    token = _new(given) if action == "add" else None
    record = live_record(deployment, output)
    folder = _folder(record, output)
    try:
        if token is not None:
            _keep(folder, name, token[1], record)
            if given.json:
                console.json({"name": name, "token": token[0], "url": record.client})
            else:
                _show(name, token[0], record, console)
        elif action == "revoke":
            _revoke(name, folder, record, console)
        else:
            _list(folder, usage_file(output.path, record.id), console, as_json=given.json)
    except OSError as error:
        raise FileError(
            f"the tokens in {folder} cannot be read or written: {error.strerror}; make room there, "
            "and use the account that has started the deployment."
        ) from error


def _words(words: Sequence[str]) -> tuple[str, str, str]:
    """What is to be done, with which name, in which deployment ("": the newest). Raises
    UsageError."""
    action, *rest = words
    named = action in ("add", "revoke")
    if not (named or action == "list") or not named <= len(rest) <= named + 1:
        raise UsageError(_USE)
    name = rest.pop(0) if named else ""
    if named and (not NAME.fullmatch(name) or name in RESERVED):
        raise UsageError(
            f"{name!r} cannot be a token's name: take up to 32 of a-z, 0-9, '.', '_' and '-', "
            f"a letter or digit first and last, but not {', '.join(map(repr, RESERVED))}."
        )
    return action, name, rest[0] if rest else ""


def _new(given: argparse.Namespace) -> tuple[str, NamedToken]:
    """A token, and what is kept of it. Raises UsageError."""
    for option, limit in (("in-flight", given.in_flight), ("per-minute", given.per_minute)):
        if limit is not None and not 1 <= limit <= 1_000_000:
            raise UsageError(f"--{option} is {limit}, but must be from 1 to 1000000.")
    word, now = new_token(), time.time()
    return word, NamedToken(
        sha256=digest_of(word),
        created=now,
        expires=None if given.expires is None else now + _seconds(given.expires),
        in_flight=given.in_flight,
        per_minute=given.per_minute,
    )


def _seconds(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--expires is {text!r}, but {error}.") from error


def _folder(record: Record, output: OutputDir) -> Path:
    """Raises UsageError."""
    folder = tokens_folder(output.path, record.id)
    if not folder.parent.is_dir():
        raise UsageError(
            f"{record.id} asks for no tokens, or has not begun to (security in its recipe or site "
            "profile); see --status."
        )
    return folder


def _keep(folder: Path, name: str, token: NamedToken, record: Record) -> None:
    """Raises UsageError, OSError."""
    try:
        keep_token(folder, name, token)
    except NameTaken as error:
        raise UsageError(
            f"{record.id} has a token of the name {name!r}; revoke it first, or take another name."
        ) from error


def _show(name: str, word: str, record: Record, console: Console) -> None:
    console.tell("orch", f"the token of {name}, shown this once; it is valid within a second:")
    console.say(word)
    if record.client:
        console.tell("orch", f"it opens {record.client} (Authorization: Bearer, or as API key)")


def _revoke(name: str, folder: Path, record: Record, console: Console) -> None:
    try:
        remove_token(folder, name)
    except FileNotFoundError as error:
        known = ", ".join(n for n, one in read_tokens(folder).items() if not one.revoked) or "none"
        raise UsageError(f"{record.id} has no token of the name {name!r}; it has: {known}.") from (
            error
        )
    console.tell("orch", f"the token of {name} opens nothing any more, within a second")


def _list(folder: Path, usage: Path, console: Console, *, as_json: bool) -> None:
    tokens, used = read_tokens(folder), read_usage(usage).users
    names = [OWNER, *tokens, *sorted(used.keys() - tokens.keys() - {OWNER})]
    if as_json:
        console.json([_as_json(name, tokens.get(name), used.get(name, Used())) for name in names])
        return
    head = ["name", "left", "in flight", "per minute", "requests", "seconds", "tokens in", "out"]
    rows = [_row(name, tokens.get(name), used.get(name, Used())) for name in names]
    for line in columns([head, *rows]):
        console.say(line)


def _as_json(name: str, token: NamedToken | None, used: Used) -> dict[str, object]:
    limits = {} if token is None else token.model_dump(exclude={"sha256"})
    return {"name": name, "valid": _is_valid(name, token), **limits, **used.model_dump()}


def _is_valid(name: str, token: NamedToken | None) -> bool:
    return name in (OWNER, OWN_PARTS) if token is None else token.valid(time.time())


def _row(name: str, token: NamedToken | None, used: Used) -> list[str]:
    left = (
        "-" if _is_valid(name, token) else "expired" if token and not token.revoked else "revoked"
    )
    if token is not None and token.expires is not None and left == "-":
        left = format_time(int(token.expires - time.time()))
    limits = (token.in_flight, token.per_minute) if token else (None, None)
    figures = (used.prompt_tokens, used.completion_tokens)
    return [
        name,
        left,
        *("-" if limit is None else str(limit) for limit in limits),
        str(used.requests),
        f"{used.seconds:.1f}",
        *map(str, figures),
    ]
