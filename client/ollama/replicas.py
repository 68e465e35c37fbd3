"""The replicas of the deployment: which of them are ejected, though they answer the door.

Who gets a request, HAProxy decides, and it sees itself who does not answer (lib/door.cfg). What it
cannot see is known here: that a replica answers, but not with the model.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from client.door import EngineServers
from client.errors import NotReady, RequestError, Unreachable
from client.ollama.addresses import AddressFile

#: Replicas that are asked how they are, at once.
CHECKED_AT_ONCE = 32
#: Seconds until one that was ejected is asked again.
RECHECK_S = 1.0


class Replicas:
    """Those of the address file, for any thread; the door is told who is ejected.

    An ejected one is asked again, with `check` (raises RequestError: it would not answer).
    """

    def __init__(
        self, addresses: AddressFile, servers: EngineServers, check: Callable[[str], None]
    ) -> None:
        self._addresses, self._servers, self._check = addresses, servers, check
        self._lock = threading.Lock()
        self._ejected_at: dict[str, float] = {}  # time.monotonic
        self._all_wanted = False
        self._checking = threading.Lock()

    def eject(self, address: str) -> bool:
        """Send it no request until it answers, as long as there is another one: it failed. Return
        whether there is."""
        with self._lock:
            new = address not in self._ejected_at
            self._ejected_at[address] = time.monotonic()
            if new:
                self._servers.keep_from(list(self._ejected_at))
            return not self._ejected_at.keys() >= set(self._addresses.known)

    def readmit(self, address: str) -> None:
        """Let it have requests again: it has answered."""
        with self._lock:
            if self._ejected_at.pop(address, None) is not None:
                self._servers.keep_from(list(self._ejected_at))

    def outstanding(self) -> Counter[str]:
        """Return how many requests that came through the door each has not ended yet."""
        return self._servers.outstanding()

    def outstanding_and_down(self) -> tuple[Counter[str], set[str]]:
        """Return that, and those that do not answer the door."""
        return self._servers.outstanding_and_down()

    def count(self) -> int:
        """Return how many there are, or were; 0 if no address has been known."""
        try:
            return len(self._addresses.read())
        except NotReady:
            return len(self._addresses.known)

    def ejected(self) -> int:
        """Return how many would not answer: all that were known if their file is gone."""
        try:
            addresses = self._addresses.read()
        except NotReady:
            return len(self._addresses.known)
        return len(set(addresses) - self._servers.up().difference(self._ejected_at))

    def check_soon(self) -> None:
        """Have all of them checked the next time, in the background."""
        self._all_wanted = True

    def recheck(self) -> None:
        """Check those whose time has come, and all if that is wanted; in the background, unless
        that is under way."""
        due = map(self._is_due, tuple(self._ejected_at))
        if (self._all_wanted or any(due)) and self._checking.acquire(blocking=False):
            threading.Thread(target=self._check_due, daemon=True).start()

    def _is_due(self, address: str) -> bool:
        return time.monotonic() - self._ejected_at.get(address, float("inf")) >= RECHECK_S

    def _check_due(self) -> None:
        with contextlib.suppress(NotReady), contextlib.ExitStack() as end:
            end.callback(self._checking.release)
            all_wanted, self._all_wanted = self._all_wanted, False
            addresses = self._addresses.read()
            due = [address for address in addresses if all_wanted or self._is_due(address)]
            pool = end.enter_context(ThreadPoolExecutor(min(CHECKED_AT_ONCE, len(due) or 1)))
            list(pool.map(self._recheck, due))

    def _recheck(self, address: str) -> None:
        started_at = time.monotonic()
        try:
            self._check(address)
        except Unreachable:
            return  # the door sees that itself
        except RequestError:
            self.eject(address)
            return
        if self._ejected_at.get(address, started_at) <= started_at:  # no failure since
            self.readmit(address)
