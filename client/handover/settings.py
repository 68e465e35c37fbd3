"""What the course of a hand-over is told, and what it asks the door."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Settings:
    """What the job is told: `until` in seconds since 1970, `lasts` in seconds from the beginning of
    the first job; None for both: until it is stopped."""

    job: int
    job_id: str
    engine: str
    engine_job: str
    job_end: int
    limit: int
    chain: Path
    scripts: str
    output: Path
    door: Path
    url: str
    until: int | None = None
    lasts: int | None = None
    max_jobs: int | None = None
    #: That of Qdrant, if it is a job of its own.
    qdrant_job: str = ""


class Door(Protocol):
    """As client/handover/door.py has it."""

    def forward(self, url: str) -> None: ...
    def keep(self) -> None: ...
    def redirect(self, url: str) -> None: ...
    def open_answers(self) -> int: ...
    def retrievals(self) -> int: ...
    def engine_answers(self) -> bool: ...
    def longest_s(self) -> float: ...
