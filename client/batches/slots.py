"""How much the engines work on, and for whom, as HAProxy knows it: no engine is asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from flask import Flask, Response, request

from client.api.answers import Slots
from client.api.json_body import sent
from client.door import ENGINES, command, statistics
from client.errors import DoorSilent
from contracts.load import WAITING_IN_ENGINE

#: What lib/door.cfg calls the kinds of requests, and its table of them.
BATCH, INTERACTIVE = "batch", "interactive"
_TABLE = "show table kinds"
_ENTRY = re.compile(r"\bkey=(\w+) .*\bconn_cur=(\d+)")
#: Of a batch that asks for room, which it does each second, and for how long it is remembered.
NAME, REMEMBERED_S = "orch-batch", 5.0
_MOST, _MOST_OF_A_NAME = 1000, 64


class Asking:
    """The batches that ask for room, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}

    def share(self, user: str, batch: str | None, total: int, most: int | None) -> float:
        """Return what is one batch's of so many requests, of which its user may have `most`: users
        have equal parts, and so have the batches of each. None: no batch asks."""
        now = monotonic()
        with self._lock:
            self._last = {one: at for one, at in self._last.items() if now - at < REMEMBERED_S}
            if batch is not None and len(self._last) < _MOST:
                self._last[user, batch[:_MOST_OF_A_NAME]] = now
            users = [whose for whose, _ in self._last]
        part = total / max(1, len(set(users)))
        return (part if most is None else min(part, most)) / max(1, users.count(user))


def add_slots_route(
    app: Flask, commands: Path, limit: Callable[[], int | None], user: Callable[[], str]
) -> None:
    """Add GET /slots; `commands` is HAProxy's socket, `limit` says how many requests whoever asks
    may have in flight, None: as many as he likes; `user` who that is."""
    asking = Asking()

    @app.get("/slots")
    def show_slots() -> tuple[Response, int]:
        found, most = slots_now(commands), limit()
        share = asking.share(user(), request.headers.get(NAME), found.total, most)
        total = found.total if most is None else min(found.total, most)
        return sent(found.model_copy(update={"total": total, "share": share}))


def slots_now(commands: Path) -> Slots:
    """Return what is so now. Raises DoorSilent."""
    try:
        servers, table = statistics(commands, ENGINES), command(commands, _TABLE)
    except OSError as error:
        raise DoorSilent(f"HAProxy does not say what it works on ({error}); ask again.") from error
    under_way = {found[1]: int(found[2]) for found in _ENTRY.finditer(table)}
    # HAProxy is told what an engine works on, and what waits within it.
    total = sum(max(1, int(row["slim"]) - WAITING_IN_ENGINE) for row in servers
                if row["status"].startswith("UP"))  # fmt: skip
    return Slots(
        total=total,
        share=total,
        interactive=under_way.get(INTERACTIVE, 0),
        batch=under_way.get(BATCH, 0),
    )
