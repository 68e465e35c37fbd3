"""The engine: runs a closed loop of clients in one event loop and returns what they saw.

Order of a run: warm-up requests to each replica, then every client opens its connection, then all
start at the same instant.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from array import array
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Any

from loadgen.connection import Connection, open_connection
from loadgen.metrics import INTERRUPTED, Measured, Record
from loadgen.ollama import Requests
from loadgen.options import Options, Replica, TargetError
from loadgen.schedule import Planned, closed_loop, warm_up

try:
    import uvloop
except ImportError:
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    EVENT_LOOP = "asyncio"
else:
    new_event_loop = uvloop.new_event_loop
    EVENT_LOOP = "uvloop"

CONNECT_TIMEOUT_S = 10.0
# A listen queue is often 128 long; more connection attempts at once would be dropped and repeated
# by the kernel a second later.
CONNECTS_AT_ONCE = 100
LAG_PERIOD_S = 0.01


@dataclass
class Progress:
    """How far a run is; `phase` is "warmup", then "measure". Seconds count from its beginning."""

    planned: int
    phase: str = "warmup"
    done: int = 0
    failed: int = 0
    began: float = field(default_factory=perf_counter)

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the phase began."""
        return perf_counter() - self.began


class Engine:
    """One run. `progress` may be read while it goes on, and `stop` called (from its loop)."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._requests = Requests(options)
        self._addresses = [_resolve(replica) for replica in options.replicas]
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
        began = perf_counter()
        await self._stoppable(self._warm_up())
        warmup_seconds = perf_counter() - began
        connections: list[Connection | None] = []
        await self._stoppable(self._connect_all(connections))
        gc.collect()
        gc.freeze()  # what is there now stays: collections need not look at it again
        cpu, start = process_time(), perf_counter()
        self.progress.phase, self.progress.began = "measure", start
        await self._stoppable(self._measure(connections, start))
        return Measured(
            planned=self._options.requests,
            clients=self._options.clients,
            start=start,
            records=sorted(self._records, key=lambda record: record.index),
            warmup_seconds=warmup_seconds,
            cpu_seconds=process_time() - cpu,
            loop_lags=self._lags,
            stopped=self._stopped,
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
        if self._options.warmup:
            await _all([self._warm_up_one(index) for index in range(len(self._addresses))])

    async def _warm_up_one(self, replica: int) -> None:
        slot = _Slot(self, replica)
        records = [
            await slot.request(planned, perf_counter())
            for planned in warm_up(self._options, replica)
        ]
        slot.close()
        failed = [record for record in records if record.error is not None]
        if len(failed) == len(records):
            url, last = self._options.replicas[replica].url, failed[-1]
            raise TargetError(f"{url} failed the warm-up: {last.error}: {last.message}.")

    # --- the run ---

    async def _connect_all(self, connections: list[Connection | None]) -> None:
        """A connection for each client; None where it could not be had (its requests try again).

        Raises TargetError where there is none at all.
        """
        gate = asyncio.Semaphore(CONNECTS_AT_ONCE)
        errors: list[str] = []

        async def connect(client: int) -> Connection | None:
            address = self._addresses[client % len(self._addresses)]
            async with gate:
                try:
                    return await open_connection(address, CONNECT_TIMEOUT_S)
                except OSError as error:
                    errors.append(str(error))
                    return None

        connections += await _all([connect(client) for client in range(self._options.clients)])
        if not any(connections):
            urls = ", ".join(replica.url for replica in self._options.replicas)
            raise TargetError(f"cannot connect to {urls}: {errors[-1]}.")

    async def _measure(self, connections: list[Connection | None], start: float) -> None:
        lag = asyncio.ensure_future(self._watch_lag())
        try:
            await _all([self._client(number, c, start) for number, c in enumerate(connections)])
        finally:
            lag.cancel()

    async def _client(self, number: int, connection: Connection | None, start: float) -> None:
        slot = _Slot(self, number % len(self._addresses), connection)
        intended = start
        try:
            for planned in closed_loop(self._options, number):
                record = await slot.request(planned, intended, self._records)
                self.progress.done += 1
                self.progress.failed += record.error is not None
                intended = record.end or perf_counter()
        finally:
            slot.close()

    async def _watch_lag(self) -> None:
        """How late the loop wakes a sleeper: as late as it is with everything else."""
        while True:
            due = perf_counter() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            self._lags.append(max(0.0, perf_counter() - due))

    async def send(self, connection: Connection, planned: Planned, record: Record) -> None:
        """One exchange on a standing connection."""
        request = self._requests.bytes_of(planned)
        await connection.exchange(request, record, self._options.timeout_s)

    async def connect(self, replica: int) -> Connection:
        """A new connection to a replica. Raises OSError."""
        return await open_connection(self._addresses[replica], CONNECT_TIMEOUT_S)


class _Slot:
    """A client's place: one request after another on one connection, opened again when it broke."""

    def __init__(self, engine: Engine, replica: int, connection: Connection | None = None) -> None:
        self._engine = engine
        self._replica = replica
        self._connection = connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def request(
        self, planned: Planned, intended: float, into: list[Record] | None = None
    ) -> Record:
        """Send one request; its record, which is put into `into` even where it is interrupted."""
        record = Record(planned.index, planned.client, planned.replica, intended)
        if into is not None:
            into.append(record)
        connection = await self._connected(record)
        if connection is not None:
            await self._engine.send(connection, planned, record)
        return record

    async def _connected(self, record: Record) -> Connection | None:
        if self._connection is not None and self._connection.usable:
            return self._connection
        began = perf_counter()
        try:
            self._connection = await self._engine.connect(self._replica)
        except OSError as error:
            record.end, record.error, record.message = perf_counter(), "connect", str(error)
            return None
        except asyncio.CancelledError:
            record.end, record.error = perf_counter(), INTERRUPTED
            raise
        record.intended = perf_counter()  # the delay until here was the connection's
        record.connect = record.intended - began
        return self._connection


async def _all(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Await all of them at once; where one fails or we are cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _resolve(replica: Replica) -> tuple[str, int]:
    """The numeric address: names are looked up once, not by every client. Raises TargetError."""
    try:
        found = socket.getaddrinfo(replica.host, replica.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TargetError(f"{replica.url}: the host is not known ({error}).") from error
    return str(found[0][4][0]), replica.port


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
