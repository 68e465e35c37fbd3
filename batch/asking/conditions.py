"""What decides a batch's answers beside its lines: given in a file, or asked of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from batch.asking.door import Connection, NoAnswer, NotReached, Reply
from batch.asking.retries import LONGEST_PAUSE_S, PATIENCE_S
from batch.asking.sending import refused
from contracts.errors import ServiceError, UsageError
from contracts.files import read_json_strictly
from contracts.json_object import JsonObject
from engines.json_values import text_of
from ledger.conditions import Conditions

_HEALTH = "/health"


def read_conditions(path: Path) -> Conditions:
    """Return those of a file. Raises UsageError."""
    found = read_json_strictly(path, "--conditions")
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise UsageError(f"--conditions {path} must be a JSON object of texts.")
    return {str(name): str(value) for name, value in found.items()}


def ask_server(connection: Connection, say: Callable[[str], None]) -> Conditions:
    """Return what the server says of itself: model, its digest, version of the engine; as much as
    it knows. One that does not answer is waited for. Raises ServiceError."""
    return _of_health(_wait_for_health(connection, say))


def _wait_for_health(connection: Connection, say: Callable[[str], None]) -> JsonObject:
    begun, wait = time.monotonic(), 0.5
    while True:
        found = _health(connection)
        if isinstance(found, Reply):
            return found.json
        if time.monotonic() - begun > PATIENCE_S:
            raise ServiceError(
                f"{connection.door.shown} does not answer ({found}); look after it, then give the "
                "same command again."
            )
        say(found)
        time.sleep(wait)
        wait = min(LONGEST_PAUSE_S, 2 * wait)


def _health(connection: Connection) -> Reply | str:
    """What it says, or why it says nothing yet."""
    try:
        reply = connection.get(_HEALTH)
    except NoAnswer as error:
        if error.code == "bad_answer":  # a server whose /health is for people, or empty
            return Reply(200, {}, "", None, None)
        return str(error)
    except NotReached as error:
        return str(error)
    if reply.status == 401:
        raise refused(connection.door, reply)
    return f"HTTP {reply.status}: {reply.words}" if reply.status >= 500 else reply


def _of_health(health: JsonObject) -> Conditions:
    replicas = health.get("ollama")
    there = [one for one in replicas if isinstance(one, dict)] if isinstance(replicas, list) else []
    said = {
        "model": {text_of(health, "model")},
        "model digest": {text_of(one, "digest") for one in there},
        "engine version": {text_of(one, "version") for one in there},
    }
    known = {name: sorted(filter(None, values)) for name, values in said.items()}
    return {name: ", ".join(values) for name, values in known.items() if values}
