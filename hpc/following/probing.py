"""Asking a service whether it is ready, in the background."""

from __future__ import annotations

import time

from hpc.following.background import Background
from hpc.following.target import Target

#: While a script that has begun is starting its service.
STARTING_TICK_S = 0.05
#: Between two questions to a service that is not ready.
PROBE_PAUSE_S = 0.2


class Prober:
    """Probes a service in the background, so that one that hangs does not hold up the loop."""

    def __init__(self, target: Target) -> None:
        self.target = target
        addresses = target.addresses
        self._call: Background[object] = Background(lambda: target.probe(addresses))
        self._next = 0.0
        self._hurried = False

    def begin(self) -> None:
        """Start the next probe if one is due."""
        if not self._call.started and (self._hurried or time.monotonic() >= self._next):
            self._hurried = False
            self._call.start()

    def collect(self) -> None:
        """Take a finished probe's result."""
        if not self._call.started or not self._call.finished(STARTING_TICK_S):
            return
        self._next = time.monotonic() + PROBE_PAUSE_S
        outcome = self._call.take()
        if isinstance(outcome, str):
            self.target.detail = outcome
        else:
            self.target.result, self.target.ready = outcome, True

    def hurry(self) -> None:
        """Ask again at once: something has changed that the service may have waited for, perhaps
        since it was asked."""
        self._hurried = True
