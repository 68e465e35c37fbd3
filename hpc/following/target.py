"""A service that is waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Target:
    """A service that is waited for.

    `probe(addresses)` returns anything but a str once the service is ready, and else a sentence
    saying why it is not; it may raise ServiceError, which ends the wait. If it is not
    `required`, nothing that becomes of it ends the wait, and nothing in the queue holds it up.
    `published_as`: the name of its address file; None: its own.
    """

    service: str
    job_id: str
    probe: Callable[[list[str]], object]
    required: bool = True
    published_as: str | None = None
    #: Given up, if it is not required.
    lost: bool = False
    #: When its script began (OutputDir.started_at), and when we saw that (time.monotonic()).
    started_at: int | None = None
    seen_at: float = 0.0
    expected: float | None = None
    addresses: list[str] = field(default_factory=list)
    result: Any = None
    ready: bool = False
    detail: str = "submitted"

    @property
    def started(self) -> bool:
        """Whether its script has begun."""
        return self.started_at is not None

    def back_to_queue(self) -> None:
        """It was requeued: nothing of its earlier run counts."""
        self.started_at = self.expected = self.result = None
        self.addresses, self.ready = [], False
