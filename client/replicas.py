"""The replicas of the deployment: who gets the next request, and who is out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from client.addresses import AddressFile
from client.errors import NotReady, ServiceError
from loadgen.balance import RECHECK_S, Balance


class Replicas:
    """Choice by least outstanding requests among the addresses of the file, for any thread.

    One that is out is asked again, with `check` (raises ServiceError: it does not answer), beside
    the next request that comes RECHECK_S later: nothing runs where nothing is asked.
    """

    def __init__(self, addresses: AddressFile, check: Callable[[str], None]) -> None:
        self._addresses = addresses
        self._check = check
        self._lock = threading.Lock()
        self._balance: Balance[str] = Balance()
        self._due: dict[str, float] = {}  # of those that are out (time.monotonic)

    def take(self) -> str:
        """The address for the next request, outstanding until `give_back`. Raises NotReady."""
        addresses = self._addresses.read()
        with self._lock:
            chosen = self._balance.take(addresses)
            due = self._to_check(addresses)
        for address in due:
            threading.Thread(target=self._recheck, args=(address,), daemon=True).start()
        assert chosen is not None  # the file holds at least one
        return chosen

    def take_other(self, avoid: str) -> str | None:
        """The same for a request that `avoid` did not answer, the file read afresh.

        None where there is no other. Raises NotReady.
        """
        addresses = self._addresses.read(fresh=True)
        with self._lock:
            return self._balance.take(addresses, avoid)

    def give_back(self, address: str) -> None:
        """A request has ended."""
        with self._lock:
            self._balance.give_back(address)

    def outstanding(self, address: str) -> int:
        """Requests of /query that it has not ended yet."""
        with self._lock:
            return self._balance.outstanding[address]

    def take_out(self, address: str) -> None:
        """It failed: no request for it until it answers, as long as another one is in."""
        with self._lock:
            self._balance.out.add(address)
            self._due[address] = time.monotonic() + RECHECK_S

    def bring_back(self, address: str) -> None:
        """It has answered."""
        with self._lock:
            self._balance.out.discard(address)
            self._due.pop(address, None)

    def count(self) -> int:
        """How many there are, or were; none where no address has been known."""
        try:
            return len(self._addresses.read())
        except NotReady:
            return len(self._addresses.known)

    def out(self) -> int:
        """How many are out now: all that were known where their file is gone: they have ended."""
        try:
            return len(self._balance.out.intersection(self._addresses.read()))
        except NotReady:
            return len(self._addresses.known)

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
        try:
            self._check(address)
        except ServiceError:
            self.take_out(address)
        else:
            self.bring_back(address)
