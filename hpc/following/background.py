"""A call in a thread, so that what hangs does not hold up the one who waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from contracts.errors import OrchError
from hpc import signals

T = TypeVar("T")


class Background(Generic[T]):
    """Runs `call` in a daemon thread when it is started: one at a time."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._thread: threading.Thread | None = None
        self._results: list[T] = []
        self._errors: list[OrchError] = []

    @property
    def started(self) -> bool:
        """Whether a call is under way, or has ended and its result was not taken."""
        return self._thread is not None

    def start(self) -> None:
        """Begin a call."""
        self._results, self._errors = [], []
        self._thread = threading.Thread(target=self._run, daemon=True)
        signals.start(self._thread)

    def finished(self, patience_s: float) -> bool:
        """Whether the call has ended, after a wait of no more than `patience_s`."""
        assert self._thread is not None
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def take(self) -> T:
        """The result of the finished call. Raises the OrchError that it raised."""
        self._thread = None
        if self._errors:
            raise self._errors[0]
        if not self._results:
            raise RuntimeError("a call in the background failed; its own words are above")
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except OrchError as error:
            self._errors.append(error)
