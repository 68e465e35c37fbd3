"""What is worth another try, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass
from time import monotonic

from batch.asking.door import NoAnswer, NotReached, Reply

#: How often a line is asked that itself may be why there is no answer.
MOST_ATTEMPTS = 8
#: Seconds before the second attempt; twice as many before each after that.
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
#: Likewise for a server that takes nothing.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
#: Seconds of Retry-After that are waited at most.
LONGEST_ASKED_S = 300.0
#: Seconds for which a server that takes nothing is waited for.
PATIENCE_S = 43_200.0

_NOT_TAKEN = (429, 503)
_WORTH_IT = (408, 409, 425, 500, 502, 504)


@dataclass(frozen=True)
class Failure:
    """Why a line has no answer. `code`: its class; `taken`: the server has worked on it, as far as
    we know; `again`: it is worth another try; `wait_s`: the server's own word how long to wait."""

    code: str
    words: str
    taken: bool
    again: bool
    wait_s: float | None = None
    reply: Reply | None = None


def failure_of(reply: Reply) -> Failure:
    """Return what to make of an answer that is no success."""
    not_taken = reply.status in _NOT_TAKEN
    return Failure(
        f"http_{reply.status}",
        reply.words,
        taken=not not_taken,
        again=not_taken or reply.status in _WORTH_IT,
        wait_s=reply.retry_after,
        reply=reply,
    )


def failure_without(error: NoAnswer | NotReached) -> Failure:
    """Return what to make of no answer."""
    if isinstance(error, NoAnswer):
        return Failure(error.code, str(error), taken=True, again=True)
    return Failure("not_reached", str(error), taken=False, again=True)


def wait_before(attempt: int, failure: Failure, dice: random.Random) -> float:
    """Return how many seconds to wait before this attempt (from 2 on), by chance between half and
    all of what has doubled each time."""
    doubled = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 2))
    asked = min(LONGEST_ASKED_S, failure.wait_s or 0.0)
    return max(asked, doubled * dice.uniform(0.5, 1.0))


class Outage:
    """Whether the server takes requests at all. Not for several threads at once."""

    def __init__(self) -> None:
        #: Until when (monotonic) nothing is to be sent.
        self.until = 0.0
        self._since: float | None = None
        self._rounds = 0
        #: Why, in the server's words or the kernel's; None while it takes requests.
        self.why: str | None = None

    def refused(self, begun: float, failure: Failure, dice: random.Random) -> None:
        """Note that a request that began at `begun` was not taken."""
        now = monotonic()
        if self._since is None:
            self._since = now
        self.why = failure.words
        if begun < self.until:
            return  # one of those that were under way when it was noticed
        self._rounds += 1
        doubled = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self._rounds - 1))
        asked = min(LONGEST_ASKED_S, failure.wait_s or 0.0)
        self.until = now + max(asked, doubled * dice.uniform(0.5, 1.0))

    def taken(self) -> None:
        """Note that a request was answered."""
        self.until, self._since, self._rounds, self.why = 0.0, None, 0, None

    @property
    def lasted_s(self) -> float:
        """Seconds for which nothing was taken."""
        return 0.0 if self._since is None else monotonic() - self._since
