"""A run from its beginning to its end: warm up, probe the servers, measure, probe again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from loadgen.load import energy, servers
from loadgen.load.worker import Worker, new_event_loop
from loadgen.load.worker_group import NOTICE_S, WorkerGroup
from loadgen.measurements import Measured
from loadgen.options import Options

#: What carries the load.
Workers = Worker | WorkerGroup


@dataclass(frozen=True)
class Clocks:
    """The machine's clocks at one moment, in seconds."""

    monotonic: float
    wall: float
    boot: float

    @classmethod
    def now(cls) -> Clocks:
        """Return them as they stand."""
        return cls(time.perf_counter(), time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))

    def since(self, before: Clocks) -> dict[str, float]:
        """Return by how much wall clock and boot clock went on more than the monotonic one."""
        passed = self.monotonic - before.monotonic
        return {
            "wall_seconds_off": self.wall - before.wall - passed,
            "suspended_seconds": self.boot - before.boot - passed,
        }


def run(
    options: Options, attach: Callable[[Workers], None], detach: Callable[[], None] = lambda: None
) -> Measured:
    """Run the load on the fastest event loop there is; `attach` is called first, in the loop, and
    `detach` last.

    Raises TargetError.
    """
    loop = new_event_loop()
    try:
        return loop.run_until_complete(_run(options, attach, detach))
    finally:
        loop.close()


async def _run(
    options: Options, attach: Callable[[Workers], None], detach: Callable[[], None]
) -> Measured:
    several = options.workers > 1
    workers: Workers = WorkerGroup(options) if several else Worker(options)
    attach(workers)
    try:
        await workers.prepare()
        before = servers.probe(options)
        clocks = Clocks.now()
        with energy.metered(options) as meter:
            start = time.perf_counter() + (NOTICE_S if several else 0.0)
            parts = await workers.measure(start)
        return Measured(
            start=start,
            parts=parts,
            warmup_seconds=workers.warmup_seconds,
            stopped=workers.stopped,
            urls=[replica.url for replica in options.replicas],
            servers_before=before,
            servers_after=servers.probe(options),
            clocks=Clocks.now().since(clocks),
            energy=meter.reading,
        )
    finally:
        await workers.close()
        detach()
