"""Choose which of several replicas gets the next request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

# Seconds until a replica that was ejected is asked again whether it answers.
RECHECK_S = 1.0

K = TypeVar("K", bound=Hashable)


class Balance(Generic[K]):
    """Balance by least outstanding requests; if several replicas have as few, they take turns.

    An ejected replica is chosen only if there is no other. Not for several threads at once.
    """

    def __init__(self) -> None:
        self.outstanding: Counter[K] = Counter()
        self.ejected: set[K] = set()
        self._last: dict[K, int] = {}
        self._acquired = 0

    def acquire(self, replicas: Sequence[K], avoid: K | None = None) -> K | None:
        """Return one, with one more request outstanding; None if there is only `avoid`."""
        others = [replica for replica in replicas if replica != avoid]
        choice = [replica for replica in others if replica not in self.ejected] or others
        if not choice:
            return None
        chosen = min(choice, key=lambda key: (self.outstanding[key], self._last.get(key, 0)))
        self.outstanding[chosen] += 1
        self._acquired += 1
        self._last[chosen] = self._acquired
        return chosen

    def release(self, replica: K) -> None:
        """Count a request of it as no longer outstanding."""
        self.outstanding[replica] -= 1
