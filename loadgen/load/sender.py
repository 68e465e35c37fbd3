"""One request after another to the replicas: each on a connection that is kept, or on a new one."""

from __future__ import annotations

import asyncio
from time import perf_counter

from engines.http.headers import Mask
from engines.http.sockets import in_words
from loadgen.load.connection import Connection
from loadgen.load.protocols import Requests
from loadgen.load.replicas import Replicas
from loadgen.load.schedule import Planned
from loadgen.measurements import INTERRUPTED, RequestRecord
from loadgen.options import Options

#: Errors by which a replica is taken out.
GONE = ("connect", "cut")


class Sender:
    """Sends planned requests, and notes in their records what becomes of them."""

    def __init__(self, options: Options, replicas: Replicas) -> None:
        self._options = options
        self._replicas = replicas
        self._requests = Requests(options)
        self._mask = Mask(options.headers)

    async def send(self, planned: Planned, record: RequestRecord) -> None:
        """Send it, and once more if another replica may have it; or the same one, if all that
        ended was a connection that had been idle."""
        replica = self._replicas.acquire()
        went_stale = await self.attempt(planned, record, replica)
        other = self._replicas.acquire_other(replica) if record.unanswered else None
        if other is None and went_stale:
            other = self._replicas.acquire(replica)
        if other is not None:
            record.again()
            await self.attempt(planned, record, other)

    async def attempt(self, planned: Planned, record: RequestRecord, replica: int) -> bool:
        """Send a request to the replica acquired for it; note a failure in the record.
        Return whether its connection went stale."""
        record.replica = self._replicas.url(replica)
        kept = self._options.reuse_connections and record.retried_from != record.replica
        connection = self._replicas.idle(replica) if kept else None
        try:
            connection = connection or await self._connect(record, replica)
            if connection is not None:
                request = self._requests.bytes_of(planned, replica)
                await connection.exchange(request, record, self._options.timeout_seconds)
        finally:
            self._replicas.release(replica, connection)
            if record.message is not None:
                record.message = self._mask(record.message)
        if record.error in GONE:
            self._replicas.eject(replica, str(record.message))
        return connection is not None and connection.went_stale

    async def _connect(self, record: RequestRecord, replica: int) -> Connection | None:
        started_at = perf_counter()
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
            self._note_connect(record, started_at, perf_counter())
        return connection

    def _note_connect(self, record: RequestRecord, started_at: float, now: float) -> None:
        """The time until now was the connection's. If each request is to have one of its own,
        that belongs to its latency."""
        record.connect, record.due = now - started_at, now
        if not self._options.reuse_connections and record.counts_from is None:
            record.counts_from = started_at
