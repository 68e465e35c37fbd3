"""A run from its beginning to its end: warm up, look at the servers, measure, look again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from loadgen import energy, servers
from loadgen.crew import NOTICE_S, Crew
from loadgen.engine import Engine, new_event_loop
from loadgen.options import Options
from loadgen.records import Measured

#: What carries the load.
Team = Engine | Crew


@dataclass(frozen=True)
class Clocks:
    """The machine's clocks at one moment, in seconds."""

    monotonic: float
    wall: float
    boot: float

    @classmethod
    def now(cls) -> Clocks:
        """As they stand."""
        return cls(time.perf_counter(), time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))

    def since(self, before: Clocks) -> dict[str, float]:
        """By how much wall clock and boot clock went on more than the monotonic one has."""
        passed = self.monotonic - before.monotonic
        return {
            "wall_seconds_off": self.wall - before.wall - passed,
            "suspended_seconds": self.boot - before.boot - passed,
        }


def run(options: Options, attach: Callable[[Team], None]) -> Measured:
    """Run the load on the fastest event loop there is; `attach` is called first, in the loop.

    Raises TargetError.
    """
    loop = new_event_loop()
    try:
        return loop.run_until_complete(_run(options, attach))
    finally:
        loop.close()


async def _run(options: Options, attach: Callable[[Team], None]) -> Measured:
    several = options.processes > 1
    team: Team = Crew(options) if several else Engine(options)
    attach(team)
    try:
        await team.prepare()
        before = servers.look(options)
        clocks = Clocks.now()
        with energy.metered(options) as meter:
            start = time.perf_counter() + (NOTICE_S if several else 0.0)
            parts = await team.measure(start)
        return Measured(
            start=start,
            parts=parts,
            warmup_seconds=team.warmup_seconds,
            stopped=team.stopped,
            urls=[replica.url for replica in options.replicas],
            servers_before=before,
            servers_after=servers.look(options),
            clocks=Clocks.now().since(clocks),
            energy=meter.reading,
        )
    finally:
        await team.close()
