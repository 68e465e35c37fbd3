"""Whether replicas would answer with a model: their last answers, and, if those are old, a
request for one token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from client.errors import Busy, RequestError, TooSlow

#: Seconds for which an answer speaks for the ones to come, of a replica that works for nobody here.
STALE_S = 5.0
#: Seconds for which one that answered is taken to be well while it is asked again: who watches asks
#: us often, and is told the next time.
RECENT_S = 60.0
#: Seconds after which one that failed is asked again.
RETRY_S = 1.0
#: As STALE_S, of one that works: its answers will come, and a request more would wait behind them.
QUIET_S = 30.0
#: What a request for one token may take, and how long it is out until that is worth a word.
PROBE_TIMEOUT_S = 30.0
SLOW_S = 5.0


class Judgement(NamedTuple):
    """Whether a query would be answered, and what there is to say of it; None: nothing."""

    ok: bool
    reason: str | None


_NOTHING = Judgement(True, "has not answered with the model yet")


@dataclass
class _Known:
    judgement: Judgement = _NOTHING
    at: float = -float("inf")  # time.monotonic
    probe_started_at: float | None = None
    probe_finished: threading.Event = field(default_factory=threading.Event)


class Evidence:
    """What is known of every replica, for any thread. Never more than one probe of a replica."""

    def __init__(self, ask: Callable[[str, float], object], busy: Callable[[str], bool]) -> None:
        """`ask` asks an address for a token, in so many seconds (raises RequestError); `busy` says
        whether an address works on queries."""
        self._ask = ask
        self._busy = busy
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def answered(self, address: str) -> None:
        """Note that it has just answered with the model, in part or wholly."""
        self._note(address, Judgement(True, None))

    def failed(self, address: str, why: str) -> None:
        """Note that it has just failed with the model; `why` is a sentence."""
        self._note(address, Judgement(False, why))

    def judgement(self, address: str) -> Judgement:
        """Judge by what is known now."""
        known = self._of(address)
        started_at = known.probe_started_at
        waited = time.monotonic() - started_at if started_at is not None else 0.0
        if known.judgement.ok and waited > SLOW_S:
            return Judgement(True, f"a request for one token has been waiting for {waited:.0f} s")
        return known.judgement

    def refresh(self, address: str, busy: bool, patience_s: float) -> None:
        """Ask for a token if what is known is old; if it is very old, or bad, see for at most
        `patience_s` what comes. `busy`: it works on queries."""
        known = self._of(address)
        age = time.monotonic() - known.at
        limit = RETRY_S if not known.judgement.ok else QUIET_S if busy else STALE_S
        if age > limit:
            self._begin(address)
        recent = known.judgement.ok and age <= RECENT_S
        if known.probe_started_at is not None and not busy and not recent:
            known.probe_finished.wait(patience_s)

    def ask(self, address: str) -> Judgement:
        """Ask for a token, wait, and return what that says."""
        self._begin(address)
        self._of(address).probe_finished.wait(2 * PROBE_TIMEOUT_S)
        return self.judgement(address)

    def _begin(self, address: str) -> None:
        known = self._of(address)
        with self._lock:
            if known.probe_started_at is not None:
                return
            known.probe_started_at = time.monotonic()
            known.probe_finished = threading.Event()
        threading.Thread(target=self._probe, args=(address, known), daemon=True).start()

    def _probe(self, address: str, known: _Known) -> None:
        try:
            self._ask(address, PROBE_TIMEOUT_S)
        except Busy as error:  # so would a query be told: to come again
            self._note(address, Judgement(True, str(error)))
        except TooSlow:
            # Behind the queries of others it would have waited, too.
            words = f"a request for one token was not answered in {PROBE_TIMEOUT_S:g} s"
            self._note(address, Judgement(self._busy(address), words))
        except RequestError as error:
            self.failed(address, str(error))
        else:
            self.answered(address)
        finally:
            known.probe_started_at = None
            known.probe_finished.set()

    def _note(self, address: str, judgement: Judgement) -> None:
        known = self._of(address)
        known.judgement, known.at = judgement, time.monotonic()

    def _of(self, address: str) -> _Known:
        found = self._known.get(address)
        return found or self._known.setdefault(address, _Known())
