"""The engine: sends the requests of one process in one event loop and returns what it saw.

Order of a run: warm-up requests to each replica, then connections are opened, then all begins at
the same instant. A request that its replica refuses, or cuts before any byte of an answer, is sent
once more, to another replica; if there is none, and its connection had been idle, on a new one.
"""

from __future__ import annotations

import asyncio
import gc
import resource
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from time import perf_counter, process_time
from typing import TypeVar

from contracts.errors import TargetError
from contracts.histograms import Tally
from loadgen.load.progress import RunProgress
from loadgen.load.replicas import Replicas
from loadgen.load.schedule import Planned, clients_of, closed_loop, open_loop, warm_up
from loadgen.load.sender import GONE, Sender
from loadgen.load.timer import LagProbe, Timer, sleep_until
from loadgen.measurements import INTERRUPTED, RequestRecord, WorkerResult
from loadgen.options import Options

try:
    import uvloop
except ImportError:
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    EVENT_LOOP = "asyncio"
else:
    new_event_loop = uvloop.new_event_loop
    EVENT_LOOP = "uvloop"

_Answer = TypeVar("_Answer")

TOO_MANY_ERRORS = "too many requests failed (--stop-on-errors)"
#: Connections that an open loop has at its begin beyond those it will need as a rule, and at most.
#: It makes more as it needs them, but each takes a part of a millisecond that others wait for.
_SPARE_CONNECTIONS, _MOST_CONNECTIONS = 64, 1000


def share_of(number: int, options: Options, process: int) -> int:
    """Return how many of `number` things, dealt out one by one, are a process's."""
    return len(range(process, number, options.workers))


class Worker:
    """One process's part in a run. `progress` may be read while it goes on, and `stop` called (from
    its loop)."""

    def __init__(self, options: Options, process: int = 0) -> None:
        self._options = options
        self._process = process
        self._most = self._most_at_once()
        self._replicas = Replicas(options)
        self._sender = Sender(options, self._replicas)
        self._records: list[RequestRecord] = []
        self._idle_from: float | None = None
        self._warm_seconds: list[float] = []  # of each request of the warm-up that succeeded
        self._work: asyncio.Task[None] | None = None
        self.stopped: str | None = None
        self.warmup_seconds = 0.0
        planned = options.requests
        self.progress = RunProgress(
            None if planned is None else share_of(planned, options, process),
            Tally() if options.live else None,
        )

    def _most_at_once(self) -> int | None:
        """How many requests may be in flight; None: as many as come."""
        whole = self._options.max_concurrency if self._options.open_loop else self._options.clients
        return whole and share_of(whole, self._options, self._process)

    def stop(self, reason: str) -> None:
        """End the run now; requests in flight count as interrupted, what was measured is kept."""
        if self.stopped is None:
            self.stopped, self._idle_from = reason, perf_counter()
        if self._work is not None:
            self._work.cancel()

    async def prepare(self) -> None:
        """Warm up and connect. Raises TargetError if the target serves nothing at all."""
        started_at = perf_counter()
        await self._stoppable(self._warm_up())
        self.warmup_seconds = perf_counter() - started_at
        await self._stoppable(self._replicas.connect_all(self._connections()))
        gc.collect()
        gc.freeze()  # what is there now stays: collections need not look at it again

    def _connections(self) -> int:
        """How many are wanted at the beginning: as many as requests may be in flight. If any
        number may, it is the rate times the time of one (Little's law), which under load is longer
        than in the warm-up."""
        if self._most or self._options.rate is None:
            return self._most or 1
        rate = self._options.rate / self._options.workers
        in_flight = rate * min(self._warm_seconds, default=0.0)
        return min(_most_connections(), _SPARE_CONNECTIONS + round(1.5 * in_flight))

    async def measure(self, start: float) -> list[WorkerResult]:
        """Send what is planned, from `start` (perf_counter) on."""
        self.progress.measure_from(start)
        pauses, probe, cpu = _GcPauses(), LagProbe(), process_time()
        try:
            await self._stoppable(self._measure(start))
        finally:
            probe.close()
            pauses.close()
        return [
            WorkerResult(
                records=self._records,
                lags=probe.lags,
                pauses=pauses.seconds,
                cpu_seconds=process_time() - cpu,
                idle_from=self._idle_from,
                outages=self._replicas.outages,
            )
        ]

    async def close(self) -> None:
        """Close all connections."""
        await self._replicas.close()

    async def _stoppable(self, work: Coroutine[object, object, None]) -> None:
        """Await `work`, which `stop` cancels; nothing begins after a stop."""
        if self.stopped is not None:
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
        """Each replica is asked; one that cannot be reached is out, if another one can.

        Raises TargetError: none can, or one answers but does not serve.
        """
        if not self._options.warmup:
            return
        failures = await _all([self._warm_up_one(index) for index in range(len(self._replicas))])
        gone = [last is not None and last.error in GONE for last in failures]
        for replica, last in enumerate(failures):
            if last is not None and (all(gone) or not gone[replica]):
                why = f"{last.error}: {last.message}".rstrip(".")
                raise TargetError(f"{last.replica} failed the warm-up: {why}{_perhaps_tls(last)}.")

    async def _warm_up_one(self, replica: int) -> RequestRecord | None:
        """Its last failure, if every request failed."""
        records = []
        for planned in warm_up(self._options, self._process):
            record = RequestRecord(planned.index, planned.client, perf_counter())
            await self._sender.attempt(planned, record, self._replicas.acquire(replica))
            records.append(record)
        took = [r.end - r.sent for r in records if r.error is None and r.end and r.sent]
        self._warm_seconds += took
        return None if took else records[-1]

    # --- the run ---

    async def _measure(self, start: float) -> None:
        rung = asyncio.Event()
        timer = Timer(rung.set)
        try:
            await sleep_until(start, timer, rung)  # with other processes it is ahead of us
            if self._options.open_loop:
                await self._open_loop(start, timer, rung)
            else:
                clients = clients_of(self._options, self._process)
                await _all([self._client(number, start) for number in clients])
        finally:
            timer.close()

    async def _client(self, number: int, start: float) -> None:
        """One client of a closed loop."""
        end = None if (length := self._options.duration_seconds) is None else start + length
        intended, record = start, None
        for planned in closed_loop(self._options, number):
            if end is not None and intended >= end:
                break
            record = RequestRecord(planned.index, planned.client, intended)
            await self._request(planned, record)
            intended = record.end or perf_counter()
        # From the first client on that has nothing more to do, the load is not what was asked for.
        if record is not None:
            self._idle_from = min(self._idle_from or intended, end or intended)

    async def _open_loop(self, start: float, timer: Timer, rung: asyncio.Event) -> None:
        """Each request at its time, whatever became of those before it."""
        slots = asyncio.Semaphore(self._most) if self._most else None
        tasks: set[asyncio.Task[None]] = set()
        last = start
        try:
            for planned in open_loop(self._options, self._process):
                last = start + planned.at
                await sleep_until(last, timer, rung)
                record = RequestRecord(planned.index, None, last, counts_from=last)
                if slots is not None:
                    await _acquire_slot(slots, record)
                task = asyncio.ensure_future(self._request(planned, record))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                if slots is not None:
                    task.add_done_callback(lambda _: slots.release())
            self._idle_from = self._end_of_arrivals(start, last)
            await _all(list(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end_of_arrivals(self, start: float, last: float) -> float:
        """When the next request would have come, on average."""
        if (length := self._options.duration_seconds) is not None:
            return start + length
        assert self._options.rate is not None
        return last + 1 / self._options.rate

    # --- a request ---

    async def _request(self, planned: Planned, record: RequestRecord) -> None:
        """Send a request, and take note of its end also if we are stopped just then."""
        self._records.append(record)
        self.progress.in_flight += 1
        try:
            await self._sender.send(planned, record)
        finally:
            self.progress.in_flight -= 1
            if record.end is not None and record.error != INTERRUPTED:
                self.progress.note(record)
        limit = self._options.stop_on_errors
        if limit is not None and self.progress.failed >= limit:
            self.stop(TOO_MANY_ERRORS)


def _perhaps_tls(record: RequestRecord) -> str:
    """Many servers of https close without a word what is no TLS."""
    silent = record.error == "cut" and record.unanswered
    return "; is it https://?" if silent and str(record.replica).startswith("http://") else ""


def _most_connections() -> int:
    """Half of the files that may be open: one too many would look like a replica that is gone."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(_MOST_CONNECTIONS, limit // 2)


async def _acquire_slot(slots: asyncio.Semaphore, record: RequestRecord) -> None:
    if slots.locked():
        await slots.acquire()
        record.due = perf_counter()
    else:
        await slots.acquire()


class _GcPauses:
    """How long each garbage collection held the program up."""

    def __init__(self) -> None:
        self.seconds = array("d")
        self._started_at = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._started_at = perf_counter()
        else:
            self.seconds.append(perf_counter() - self._started_at)

    def close(self) -> None:
        """No more notes."""
        gc.callbacks.remove(self._note)


async def _all(work: Iterable[Awaitable[_Answer]]) -> list[_Answer]:
    """Await all of them at once; if one fails or we are cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
