"""The engine: runs a closed loop of clients in one event loop and returns what they saw.

Order of a run: warm-up requests to each replica, then the clients' connections are opened, then all
start at the same instant. A request that its replica refuses, or cuts before any byte of an answer,
is sent once more, to another replica.
"""

from __future__ import annotations

import asyncio
import gc
from array import array
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Any

from loadgen.connection import Connection
from loadgen.metrics import INTERRUPTED, Measured, Record, percentile
from loadgen.ollama import Requests
from loadgen.options import Options, TargetError
from loadgen.replicas import Replicas
from loadgen.schedule import Planned, closed_loop, warm_up
from loadgen.sockets import in_words

try:
    import uvloop
except ImportError:
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    EVENT_LOOP = "asyncio"
else:
    new_event_loop = uvloop.new_event_loop
    EVENT_LOOP = "uvloop"

LAG_PERIOD_S = 0.01
RECENT = 1000  # requests whose median is told while a run goes on: quickly made, and up to date
_GONE = ("connect", "cut")  # errors by which a replica is taken out


@dataclass
class Progress:
    """How far a run is; `phase` is "warmup", then "measure". Seconds count from its beginning."""

    planned: int
    phase: str = "warmup"
    done: int = 0
    failed: int = 0
    tokens: int = 0
    began: float = field(default_factory=perf_counter)
    ttfts: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def ended(self, record: Record) -> None:
        """Count a request that has ended."""
        self.done += 1
        if record.error is not None:
            self.failed += 1
            return
        self.tokens += record.answer.output_tokens or 0
        if record.ttft is not None:
            self.ttfts.append(record.ttft)

    def as_dict(self) -> dict[str, Any]:
        """Counts and figures so far; `ttft_p50` (seconds) over the last RECENT requests."""
        seconds = perf_counter() - self.began
        whole = self.done - self.failed
        return {
            "phase": self.phase,
            "planned": self.planned,
            "done": self.done,
            "failed": self.failed,
            "elapsed_seconds": round(seconds, 3),
            "requests_per_second": whole / seconds if whole else None,
            "ttft_p50": percentile(sorted(self.ttfts), 50) if self.ttfts else None,
            "output_tokens_per_second": self.tokens / seconds if self.tokens else None,
        }


class Engine:
    """One run. `progress` may be read while it goes on, and `stop` called (from its loop)."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._requests = Requests(options)
        self._replicas = Replicas(options)
        self._records: list[Record] = []
        self._lags = array("d")
        self._work: asyncio.Task[Any] | None = None
        self._stopped: str | None = None
        self.progress = Progress(options.requests)

    def stop(self, reason: str) -> None:
        """End the run now; requests in flight count as interrupted, what was measured is kept."""
        self._stopped = self._stopped or reason
        if self._work is not None:
            self._work.cancel()

    async def run(self) -> Measured:
        """Warm up and measure. Raises TargetError where the target serves nothing at all."""
        try:
            return await self._run()
        finally:
            await self._replicas.close()

    async def _run(self) -> Measured:
        began = perf_counter()
        await self._stoppable(self._warm_up())
        warmup_seconds = perf_counter() - began
        await self._stoppable(self._replicas.connect_all())
        gc.collect()
        gc.freeze()  # what is there now stays: collections need not look at it again
        cpu, start = process_time(), perf_counter()
        self.progress.phase, self.progress.began = "measure", start
        await self._stoppable(self._measure(start))
        return Measured(
            planned=self._options.requests,
            clients=self._options.clients,
            start=start,
            records=sorted(self._records, key=lambda record: record.index),
            warmup_seconds=warmup_seconds,
            cpu_seconds=process_time() - cpu,
            loop_lags=self._lags,
            stopped=self._stopped,
            urls=[replica.url for replica in self._options.replicas],
            outages=self._replicas.outages,
        )

    async def _stoppable(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, which `stop` cancels; nothing begins after a stop."""
        if self._stopped is not None:
            work.close()
            return
        self._work = asyncio.ensure_future(work)
        try:
            await self._work
        except asyncio.CancelledError:
            pass  # by stop()
        finally:
            self._work = None

    # --- warm-up ---

    async def _warm_up(self) -> None:
        """Each replica is asked; one that cannot be reached is out, where another one can.

        Raises TargetError: none can, or one answers but does not serve.
        """
        if not self._options.warmup:
            return
        failures = await _all([self._warm_up_one(index) for index in range(len(self._replicas))])
        gone = [last is not None and last.error in _GONE for last in failures]
        for replica, last in enumerate(failures):
            if last is not None and (all(gone) or not gone[replica]):
                raise TargetError(
                    f"{last.replica} failed the warm-up: {last.error}: {last.message}."
                )

    async def _warm_up_one(self, replica: int) -> Record | None:
        """Its last failure, where every request failed."""
        records = []
        for planned in warm_up(self._options):
            record = Record(planned.index, planned.client, perf_counter())
            await self._attempt(planned, record, self._replicas.take(replica))
            records.append(record)
        return None if any(record.error is None for record in records) else records[-1]

    # --- the run ---

    async def _measure(self, start: float) -> None:
        lag = asyncio.ensure_future(self._watch_lag())
        try:
            await _all([self._client(number, start) for number in range(self._options.clients)])
        finally:
            lag.cancel()

    async def _client(self, number: int, start: float) -> None:
        intended = start
        for planned in closed_loop(self._options, number):
            record = Record(planned.index, planned.client, intended)
            self._records.append(record)
            await self._request(planned, record)
            self.progress.ended(record)
            intended = record.end or perf_counter()

    async def _request(self, planned: Planned, record: Record) -> None:
        """Send a request, and once more where another replica may have it."""
        replica = self._replicas.take()
        await self._attempt(planned, record, replica)
        other = self._replicas.take_other(replica) if record.unanswered else None
        if other is not None:
            record.again()
            await self._attempt(planned, record, other)

    async def _attempt(self, planned: Planned, record: Record, replica: int) -> None:
        """Send a request to the replica that was taken for it. A failure is noted in the record."""
        record.replica = self._replicas.url(replica)
        connection = self._replicas.idle(replica)
        try:
            connection = connection or await self._connect(record, replica)
            if connection is not None:
                request = self._requests.bytes_of(planned, replica)
                await connection.exchange(request, record, self._options.timeout_s)
        finally:
            self._replicas.give_back(replica, connection)
        if record.error in _GONE:
            self._replicas.take_out(replica, str(record.message))

    async def _connect(self, record: Record, replica: int) -> Connection | None:
        began = perf_counter()
        try:
            connection = await self._replicas.connect(replica)
        except OSError as error:
            record.end, record.error, record.message = perf_counter(), "connect", in_words(error)
            record.unanswered = True
            return None
        except asyncio.CancelledError:
            record.end, record.error = perf_counter(), INTERRUPTED
            raise
        if record.retried_from is None:
            record.intended = perf_counter()  # the delay until here was the connection's
            record.connect = record.intended - began
        return connection

    async def _watch_lag(self) -> None:
        """How late the loop wakes a sleeper: as late as it is with everything else."""
        while True:
            due = perf_counter() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            self._lags.append(max(0.0, perf_counter() - due))


async def _all(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Await all of them at once; where one fails or we are cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(options: Options, attach: Callable[[Engine], None]) -> Measured:
    """Run the load on the fastest event loop there is; `attach` is called first, in the loop.

    Raises TargetError.
    """
    loop = new_event_loop()
    try:
        return loop.run_until_complete(_run(Engine(options), attach))
    finally:
        loop.close()


async def _run(engine: Engine, attach: Callable[[Engine], None]) -> Measured:
    attach(engine)
    return await engine.run()
