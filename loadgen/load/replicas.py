"""The replicas of a run: who gets the next request, who is out, and connections kept for both."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from contracts.errors import TargetError
from contracts.job_files import BadAddress, fresh, parse_address
from engines.http.balance import RECHECK_S, Balance
from engines.http.sockets import Address, addresses_of, in_words
from engines.http.tls import Tls, context_of
from engines.registry import ENGINES
from loadgen.load.connection import Connection, open_connection
from loadgen.measurements import Outage
from loadgen.options import Options, Replica

CONNECT_TIMEOUT_S = 10.0
# A listen queue is often 128 long; more connection attempts at once would be dropped and repeated
# by the kernel a second later.
CONNECTS_AT_ONCE = 100


@dataclass
class _State:
    """One replica: its addresses (one alone, from the first that took a connection on), idle
    connections, and the outage that goes on."""

    url: str
    addresses: list[Address]
    secure: Callable[[], Tls] | None = None
    idle: list[Connection] = field(default_factory=list)
    outage: Outage | None = None


class Replicas:
    """Choice among the replicas by least outstanding requests. One that refuses or cuts is out
    until it takes connections again, which is tried once in RECHECK_S."""

    def __init__(self, options: Options) -> None:
        self._states = [_State(r.url, _resolve(r), _tls(r, options)) for r in options.replicas]
        self._all = range(len(self._states))
        self._balance: Balance[int] = Balance()
        self._connections = len(self._states)  # that are kept
        self._engine = ENGINES[options.api]
        self._file = options.addresses
        self._watching: set[asyncio.Task[None]] = set()
        self.outages: list[Outage] = []

    def __len__(self) -> int:
        return len(self._states)

    def url(self, replica: int) -> str:
        """Return its URL."""
        return self._states[replica].url

    # --- choosing ---

    def acquire(self, only: int | None = None) -> int:
        """Return the replica for the next request, outstanding until `release`; or `only`."""
        chosen = self._balance.acquire(self._all if only is None else (only,))
        assert chosen is not None
        return chosen

    def acquire_other(self, avoid: int) -> int | None:
        """Return one for a request that `avoid` did not answer; None if there is no other."""
        return self._balance.acquire(self._all, avoid)

    def release(self, replica: int, connection: Connection | None) -> None:
        """End a request of it; keep its connection if it can be used again."""
        self._balance.release(replica)
        if connection is not None:
            self._keep(replica, connection)

    def eject(self, replica: int, why: str) -> None:
        """Send it no more requests until it answers, as long as there is another one."""
        state = self._states[replica]
        if len(self._states) == 1 or state.outage is not None:
            return
        self._balance.ejected.add(replica)
        while state.idle:
            state.idle.pop().close()
        state.outage = self._outage(state.url, why)
        task = asyncio.ensure_future(self._readmit(replica))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def _outage(self, url: str, why: str) -> Outage:
        """Return a new one; or the last, if it was hardly readmitted: then it was not back."""
        now = perf_counter()
        last = next((outage for outage in reversed(self.outages) if outage.url == url), None)
        if last is not None and last.end is not None and now - last.end < RECHECK_S:
            last.end = None
            return last
        self.outages.append(Outage(url, now, why))
        return self.outages[-1]

    async def _readmit(self, replica: int) -> None:
        state = self._states[replica]
        while state.outage is not None:
            await asyncio.sleep(RECHECK_S)
            if self._file is not None:
                await asyncio.to_thread(self._follow, self._file, replica)
            try:
                self._keep(replica, await self.connect(replica))
            except OSError:
                continue
            self._balance.ejected.discard(replica)
            state.outage.end, state.outage = perf_counter(), None

    def _follow(self, file: Path, replica: int) -> None:
        """Take over where it is now; as before if the file does not say it."""
        with contextlib.suppress(OSError, UnicodeError, BadAddress, ValueError):
            lines = fresh(file).read_text().split()
            if len(lines) == len(self._states):
                host, _, port = parse_address(lines[replica], "").partition(":")
                self._states[replica].addresses = addresses_of(host, int(port))

    # --- connections ---

    async def connect(self, replica: int) -> Connection:
        """Return a new connection. Raises OSError."""
        state = self._states[replica]
        opened = await open_connection(
            state.addresses, CONNECT_TIMEOUT_S, self._engine, state.secure
        )
        state.addresses = [opened.address]  # a replica is one server: behind a name may be several
        return opened

    def idle(self, replica: int) -> Connection | None:
        """Return a connection that stands and that nobody uses; None if there is none."""
        idle = self._states[replica].idle
        while idle:
            connection = idle.pop()
            if connection.probe():
                return connection
        return None

    def _keep(self, replica: int, connection: Connection) -> None:
        # So there are never more than twice as many open files as requests in flight.
        if sum(len(state.idle) for state in self._states) >= self._connections:
            connection.close()
        elif connection.usable:
            self._states[replica].idle.append(connection)

    async def connect_all(self, connections: int) -> None:
        """Open so many, kept from now on, shared evenly by the replicas that are not ejected.

        Raises TargetError if there is none at all.
        """
        self._connections = connections
        live = [replica for replica in self._all if replica not in self._balance.ejected]
        gate, errors = asyncio.Semaphore(CONNECTS_AT_ONCE), [""]

        async def one(replica: int) -> None:
            async with gate:
                if replica in self._balance.ejected:
                    return
                try:
                    self._states[replica].idle.append(await self.connect(replica))
                except OSError as error:
                    errors.append(in_words(error))
                    self.eject(replica, errors[-1])

        each = -(-self._connections // max(1, len(live)))
        missing = [r for r in live for _ in range(each - len(self._states[r].idle))]
        await asyncio.gather(*(one(replica) for replica in missing))
        if not any(state.idle for state in self._states):
            urls = ", ".join(state.url for state in self._states)
            raise TargetError(f"cannot connect to {urls}: {errors[-1]}.")

    async def close(self) -> None:
        """Close what is idle, and ask no replica any more whether it is back."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for state in self._states:
            for connection in state.idle:
                connection.close()


def _resolve(replica: Replica) -> list[Address]:
    """The numeric addresses: names are looked up once, not by every client. Raises TargetError."""
    try:
        return addresses_of(replica.host, replica.port)
    except (OSError, UnicodeError) as error:
        raise TargetError(f"{replica.url}: the host is not known ({error}).") from error


def _tls(replica: Replica, options: Options) -> Callable[[], Tls] | None:
    """What makes the TLS of a connection to it; None if it has none."""
    if not replica.secure:
        return None
    host = replica.host.partition("%")[0].rstrip(".")
    return functools.partial(Tls, context_of(options.ca), host)
