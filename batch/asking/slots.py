"""How many requests may be under way: as many as the engines work on at once, and fewer while
people use them, or other batches."""

from __future__ import annotations

import math
import threading
from time import monotonic

from batch.asking.door import Connection, NoAnswer, NotReached
from contracts.json_object import JsonObject
from engines.json_values import count_of, number_of

PATH = "/slots"
#: Seconds between two looks, and for which an interactive request is remembered.
LOOK_S, REMEMBERED_S = 1.0, 60.0
#: For a server that does not say.
DEFAULT = 8
#: With which a server says that it has no such thing; 409 is a door that has no engines.
_HAS_NONE = (400, 404, 405, 409, 501)
#: So many threads at most.
MOST = 1024


class Slots:
    """How many may be under way now."""

    def __init__(self, unknown: int) -> None:
        self._unknown = unknown
        self._last_interactive: float | None = None
        self.allowed = 1

    def told(self, status: int, said: JsonObject, at: float) -> None:
        """Take in an answer of /slots, at a time (monotonic). One that says nothing changes
        nothing; 404 and the like are a server that has no such thing."""
        total, interactive = count_of(said, "total"), count_of(said, "interactive")
        if status in _HAS_NONE:
            self.allowed = self._unknown
        elif status == 200 and total is not None:
            if interactive:
                self._last_interactive = at
            recent = (
                self._last_interactive is not None and at - self._last_interactive < REMEMBERED_S
            )
            free = total - (interactive or 0) - 1 if recent else total
            share = number_of(said, "share")
            part = free if share is None or not total else free * share / total
            # What is left over by equal parts is nobody's loss, as long as nobody waits for it.
            self.allowed = min(MOST, max(1, math.floor(part) if recent else math.ceil(part)))


class Permits:
    """Lets so many threads pass as there are slots, and no more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed = 0
        self._in_flight = 0
        self._over = False

    def allow(self, number: int) -> None:
        """Let so many be in flight from now on; who is, stays."""
        with self._changed:
            self._allowed = number
            self._changed.notify_all()

    def acquire(self) -> bool:
        """Wait for one; False if it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._in_flight < self._allowed)
            if self._over:
                return False
            self._in_flight += 1
            return True

    def release(self) -> None:
        """Let another one pass."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify()

    def end(self) -> None:
        """Let nobody pass any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


def look(connection: Connection, slots: Slots) -> None:
    """Ask the server. One that is not reached says nothing. Raises WrongDoor."""
    try:
        reply = connection.get(PATH)
    except NotReached:
        return
    except NoAnswer as error:
        if error.code == "bad_answer":  # some page of a server that has no slots
            slots.told(404, {}, monotonic())
        return
    slots.told(reply.status, reply.json, monotonic())
