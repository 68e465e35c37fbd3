"""Which of several replicas gets the next request. The client service chooses by it too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

# Seconds until a replica that was taken out is asked again whether it answers.
RECHECK_S = 1.0

K = TypeVar("K", bound=Hashable)


class Balance(Generic[K]):
    """Least outstanding requests; where several replicas have as few, they take turns.

    A replica that is out is chosen only where none is in. Not for several threads at once.
    """

    def __init__(self) -> None:
        self.outstanding: Counter[K] = Counter()
        self.out: set[K] = set()
        self._last: dict[K, int] = {}
        self._taken = 0

    def take(self, replicas: Sequence[K], avoid: K | None = None) -> K | None:
        """One of `replicas` with one more request outstanding; None: there is only `avoid`."""
        others = [replica for replica in replicas if replica != avoid]
        choice = [replica for replica in others if replica not in self.out] or others
        if not choice:
            return None
        chosen = min(choice, key=lambda key: (self.outstanding[key], self._last.get(key, 0)))
        self.outstanding[chosen] += 1
        self._taken += 1
        self._last[chosen] = self._taken
        return chosen

    def give_back(self, replica: K) -> None:
        """A request that was outstanding has ended."""
        self.outstanding[replica] -= 1
