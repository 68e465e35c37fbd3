"""Ask for each line, as many at once as there are slots, until each has an answer or failed."""

from __future__ import annotations

import heapq
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from batch.asking.door import Connection, Door, NoAnswer, NotReached, Reply, WrongDoor
from batch.asking.retries import (
    MOST_ATTEMPTS,
    PATIENCE_S,
    Failure,
    Outage,
    failure_of,
    failure_without,
    wait_before,
)
from batch.asking.slots import LOOK_S, Permits, Slots, look
from batch.given.lines import Unit
from batch.kept.store import Store
from contracts.errors import OrchError, ServiceError

#: Lines that wait for another attempt, and their bytes: beyond them no new one is begun.
MOST_WAITING, MOST_WAITING_BYTES = 1000, 16_000_000


@dataclass(order=True)
class Try:
    """A line, and which attempt at it comes next. `due`: not before that (monotonic); `size`: bytes
    of its request, once it was asked."""

    due: float
    order: int
    unit: Unit = field(compare=False)
    attempt: int = field(compare=False, default=1)
    size: int = field(compare=False, default=0)


@dataclass
class Tally:
    """What has come of the lines of this run."""

    answered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class Sender:
    """Threads, a request each; `tally` says what has come of them."""

    def __init__(
        self, door: Door, store: Store, units: Iterator[Unit], model: str | None, slots: Slots
    ) -> None:
        self.tally, self.outage = Tally(), Outage()
        #: Set when it is over; `error` says why, None if all lines are through.
        self.over = threading.Event()
        self.error: OrchError | None = None
        self._door, self._store, self._units, self._model = door, store, units, model
        self._slots, self._permits = slots, Permits()
        self._changed = threading.Condition()
        self._waiting: list[Try] = []
        self._waiting_bytes = 0
        self._open = self._order = self._threads = 0
        self._read_all = False
        self._dice = random.Random()

    def start(self) -> None:
        """Begin, in threads of their own."""
        threading.Thread(target=self._follow_slots, daemon=True).start()

    def end(self, error: OrchError | None) -> None:
        """Begin nothing any more; what is under way is dropped. The first reason counts."""
        with self._changed:
            if not self.over.is_set():
                self.error = error
                self.over.set()
            self._changed.notify_all()
        self._permits.end()

    # --- threads ---

    def _follow_slots(self) -> None:
        connection = self._door.connection()
        try:
            while not self.over.is_set():
                look(connection, self._slots)
                self._permits.allow(self._slots.allowed)
                while self._threads < self._slots.allowed and not self._read_all:
                    threading.Thread(target=self._work, daemon=True).start()
                    self._threads += 1
                self.over.wait(LOOK_S)
        except OrchError as error:
            self.end(error)
        except RuntimeError as error:  # of Thread.start
            self.end(ServiceError(
                f"this machine allows no more than {self._threads} threads ({error}); ask for more "
                "by ulimit -u, or for fewer slots."
            ))  # fmt: skip
        finally:
            self.end(_died())

    def _work(self) -> None:
        connection = self._door.connection()
        try:
            while (one := self._next()) and self._permits.acquire():
                begun, before = monotonic(), self.tally.answered
                try:
                    outcome = self._ask(connection, one)
                finally:
                    self._permits.release()
                self._settle(one, outcome, begun, before)
        except OrchError as error:
            self.end(error)
        finally:
            self.end(_died())
            connection.close()

    def _next(self) -> Try | None:
        """Wait for the next line that is to be asked; None if it is over."""
        with self._changed:
            while not self.over.is_set():
                now = monotonic()
                if self.outage.until > now:
                    self._changed.wait(self.outage.until - now)
                    continue
                found = self._due(now)
                if found is not None:
                    self._open += 1
                    return found
                if self._read_all and not self._open and not self._waiting:
                    break
                self._changed.wait(self._waiting[0].due - now if self._waiting else None)
        self.end(None)
        return None

    def _due(self, now: float) -> Try | None:
        if self._waiting and self._waiting[0].due <= now:
            found = heapq.heappop(self._waiting)
            self._waiting_bytes -= found.size
            return found
        enough = len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES
        if self._read_all or enough:
            return None
        unit = next(self._units, None)
        if unit is None:
            self._read_all = True
            return None
        self._order += 1
        return Try(now, self._order, unit)

    # --- one line ---

    def _ask(self, connection: Connection, one: Try) -> Reply | Failure:
        body = one.unit.request(self._model)
        one.size = len(body)
        try:
            reply = connection.post(one.unit.path, body)
        except (NoAnswer, NotReached) as error:
            return failure_without(error)
        if reply.status == 401:
            raise refused(self._door, reply)
        return reply if 200 <= reply.status < 300 else failure_of(reply)

    def _settle(self, one: Try, outcome: Reply | Failure, begun: float, before: int) -> None:
        """Write what came of it, or have it asked again. Raises OrchError."""
        again = None
        if isinstance(outcome, Reply):
            read, written = self._store.answered(
                one.unit, one.attempt, outcome.status, outcome.request_id, outcome.json
            )
        else:
            again = self._again(one, outcome, begun, before)
        with self._changed:
            if again is not None:
                heapq.heappush(self._waiting, again)
                self._waiting_bytes += again.size
            elif isinstance(outcome, Reply):
                self.outage.taken()
                self.tally.answered += 1
                self.tally.input_tokens += read
                self.tally.output_tokens += written
            else:
                self.tally.failed[outcome.code] += 1
            self._open -= 1
            self._changed.notify_all()

    def _again(self, one: Try, failure: Failure, begun: float, before: int) -> Try | None:
        """Return when it is asked again; None if it has failed in the end, which is written then.

        What was not taken counts only against a line if others were answered meanwhile.
        """
        with self._changed:
            if failure.taken:
                self.outage.taken()
            else:
                self.outage.refused(begun, failure, self._dice)
            lasted, pause = self.outage.lasted_s, self.outage.until
            counts = failure.taken or self.tally.answered > before
        if lasted > PATIENCE_S:
            raise ServiceError(
                f"{self._door.shown} has taken no request for {lasted / 3600:.0f} hours "
                f"({failure.words}); look after it, then give the same command again."
            )
        attempt = one.attempt + counts
        if not failure.again or attempt > MOST_ATTEMPTS:
            self._store.failed(
                one.unit, one.attempt, failure.code, failure.words, _response(failure.reply)
            )
            return None
        wait = monotonic() + wait_before(attempt, failure, self._dice) if counts else pause
        return Try(wait, one.order, one.unit, attempt, one.size)


def refused(door: Door, reply: Reply) -> WrongDoor:
    """Return what to raise if the token is not right."""
    what = "the token that was given" if door.headers else "requests without a token"
    return WrongDoor(
        f"{door.shown} refuses {what} (HTTP 401: {reply.words}); give the right one by "
        "--token-file FILE, and the same command again."
    )


def _response(reply: Reply | None) -> dict[str, object] | None:
    """As the errors' file has it."""
    if reply is None:
        return None
    return {"status_code": reply.status, "request_id": reply.request_id, "body": reply.json}


def _died() -> OrchError:
    """What is said if a thread ends by a flaw of ours; Python has printed where."""
    return OrchError("the batch ended by a flaw of its own; give the same command again.")
