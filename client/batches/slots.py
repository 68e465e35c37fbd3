"""How much the engines work on, and for whom, as HAProxy knows it: no engine is asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response

from client.api.answers import Slots
from client.api.json_body import sent
from client.door import ENGINES, command, statistics
from client.errors import DoorSilent
from contracts.load import WAITING_IN_ENGINE

#: What lib/door.cfg calls the kinds of requests, and its table of them.
BATCH, INTERACTIVE = "batch", "interactive"
_TABLE = "show table kinds"
_ENTRY = re.compile(r"\bkey=(\w+) .*\bconn_cur=(\d+)")


def add_slots_route(app: Flask, commands: Path, limit: Callable[[], int | None]) -> None:
    """Add GET /slots; `commands` is HAProxy's socket, `limit` says how many requests whoever asks
    may have in flight, None: as many as he likes."""

    @app.get("/slots")
    def show_slots() -> tuple[Response, int]:
        found, most = slots_now(commands), limit()
        if most is not None:
            found = found.model_copy(update={"total": min(found.total, most)})
        return sent(found)


def slots_now(commands: Path) -> Slots:
    """Return what is so now. Raises DoorSilent."""
    try:
        servers, table = statistics(commands, ENGINES), command(commands, _TABLE)
    except OSError as error:
        raise DoorSilent(f"HAProxy does not say what it works on ({error}); ask again.") from error
    under_way = {found[1]: int(found[2]) for found in _ENTRY.finditer(table)}
    return Slots(
        # HAProxy is told what an engine works on, and what waits within it.
        total=sum(max(1, int(row["slim"]) - WAITING_IN_ENGINE) for row in servers
                  if row["status"].startswith("UP")),
        interactive=under_way.get(INTERACTIVE, 0),
        batch=under_way.get(BATCH, 0),
    )  # fmt: skip
