"""The replicas of the deployment: who gets the next request, and who is ejected."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from client.errors import NotReady, RequestError
from client.ollama.addresses import AddressFile
from engines.http.balance import RECHECK_S, Balance

#: Replicas that are asked how they are, at once.
CHECKED_AT_ONCE = 32


class Replicas:
    """Choice by least outstanding requests among the addresses of the file, for any thread.

    An ejected one is asked again, with `check` (raises RequestError: it would not answer), beside
    the next request that comes RECHECK_S later: nothing runs if nothing is asked.
    """

    def __init__(self, addresses: AddressFile, check: Callable[[str], None]) -> None:
        self._addresses = addresses
        self._check = check
        self._lock = threading.Lock()
        self._balance: Balance[str] = Balance()
        self._due: dict[str, float] = {}  # of the ejected (time.monotonic)
        self._ejected_at: dict[str, float] = {}  # likewise, and of those that were
        self._checks_all = threading.Lock()

    def acquire(self) -> str:
        """Return the address for the next request, outstanding until `release`. Raises NotReady."""
        addresses = self._addresses.read()
        with self._lock:
            chosen = self._balance.acquire(addresses)
            due = self._to_check(addresses)
        for address in due:
            threading.Thread(target=self._recheck, args=(address,), daemon=True).start()
        assert chosen is not None  # the file holds at least one
        return chosen

    def acquire_other(self, avoid: str) -> str | None:
        """Return one for a request that `avoid` did not answer, the file read afresh.

        None if there is no other. Raises NotReady.
        """
        addresses = self._addresses.read(fresh=True)
        with self._lock:
            return self._balance.acquire(addresses, avoid)

    def release(self, address: str) -> None:
        """Count a request of it as no longer outstanding."""
        with self._lock:
            self._balance.release(address)

    def outstanding(self, address: str) -> int:
        """Return how many requests of /query it has not ended yet."""
        with self._lock:
            return self._balance.outstanding[address]

    def eject(self, address: str) -> None:
        """Send it no request until it answers, as long as there is another one: it failed."""
        with self._lock:
            self._balance.ejected.add(address)
            self._ejected_at[address] = time.monotonic()
            self._due[address] = time.monotonic() + RECHECK_S

    def readmit(self, address: str) -> None:
        """Let it have requests again: it has answered."""
        with self._lock:
            self._balance.ejected.discard(address)
            self._due.pop(address, None)

    def count(self) -> int:
        """Return how many there are, or were; 0 if no address has been known."""
        try:
            return len(self._addresses.read())
        except NotReady:
            return len(self._addresses.known)

    def ejected(self) -> int:
        """Return how many are ejected: all that were known if their file is gone."""
        try:
            return len(self._balance.ejected.intersection(self._addresses.read()))
        except NotReady:
            return len(self._addresses.known)

    def check_soon(self) -> None:
        """Check all of them in the background, unless that is under way."""
        if self._checks_all.acquire(blocking=False):
            threading.Thread(target=self._check_all, daemon=True).start()

    def _check_all(self) -> None:
        with contextlib.suppress(NotReady), contextlib.ExitStack() as end:
            end.callback(self._checks_all.release)
            addresses = self._addresses.read()
            pool = end.enter_context(ThreadPoolExecutor(min(CHECKED_AT_ONCE, len(addresses))))
            list(pool.map(self._recheck, addresses))

    def _to_check(self, addresses: list[str]) -> list[str]:
        """Those whose time has come; one alone is asked anyway."""
        now = time.monotonic()
        due = [address for address in addresses if self._due.get(address, now + 1) <= now]
        if len(addresses) == 1:
            return []
        for address in due:
            self._due[address] = float("inf")  # until this check has ended
        return due

    def _recheck(self, address: str) -> None:
        started_at = time.monotonic()
        try:
            self._check(address)
        except RequestError:
            self.eject(address)
            return
        if self._ejected_at.get(address, started_at) <= started_at:  # no failure since
            self.readmit(address)
