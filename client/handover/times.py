"""When a job has the next ones submitted: how long before its limit, by what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds of the lead beside what was measured: looks, what a scheduler takes to begin a job, and
#: that `orch.py --connect`, which asks for the address every 15 s at most, is at the next door
#: before the old one answers nobody any more.
SLACK_S = 30
#: For so many seconds answers stay open at least, when no longer one was seen.
LEAST_DRAIN_S = 30
#: Jobs as long as this are told to end by --signal, up to two minutes before their limit
#: (hpc/scheduler/slurm/directives.py); shorter ones at their limit.
_LONG_S, _BEFORE_LONG_S, _BEFORE_SHORT_S = 600, 150, 15


@dataclass(frozen=True)
class Lead:
    """What it is made of, in seconds."""

    ready: int
    queue: int
    drain: int

    @property
    def seconds(self) -> int:
        """All of it."""
        return self.ready + self.queue + self.drain + SLACK_S


def end_of(job_end: int, engine_began: float | None, limit_s: int) -> int:
    """Return when this job and its engine's have to be through, in seconds since 1970."""
    before = _BEFORE_LONG_S if limit_s >= _LONG_S else _BEFORE_SHORT_S
    engine = job_end if engine_began is None else int(engine_began) + limit_s
    return min(job_end, engine) - before


def drain_of(longest_s: float, limit_s: int) -> int:
    """Return for how long answers are let to end: as the longest of late, at most a quarter of the
    limit."""
    return min(max(LEAST_DRAIN_S, int(longest_s) + 1), limit_s // 4)


def longest(said: Mapping[int, Mapping[str, str]], word: str, last: int = 5) -> int:
    """Return the most that the last of a deployment's jobs have measured of something."""
    found = [words[word] for _, words in sorted(said.items()) if word in words]
    return max((int(value) for value in found[-last:] if value.isdecimal()), default=0)
