"""The replicas of a run: who gets the next request, who is out, and connections kept for both."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from time import perf_counter

from loadgen.answers import TAKE_LINE
from loadgen.balance import RECHECK_S, Balance
from loadgen.connection import Connection, open_connection
from loadgen.options import Options, Replica, TargetError
from loadgen.records import Outage
from loadgen.sockets import in_words

CONNECT_TIMEOUT_S = 10.0
# A listen queue is often 128 long; more connection attempts at once would be dropped and repeated
# by the kernel a second later.
CONNECTS_AT_ONCE = 100


@dataclass
class _State:
    """One replica: the numeric address, idle connections, and the outage that goes on."""

    url: str
    address: tuple[str, int]
    idle: list[Connection] = field(default_factory=list)
    outage: Outage | None = None


class Replicas:
    """Choice among the replicas by least outstanding requests. One that refuses or cuts is out
    until it takes connections again, which is tried once in RECHECK_S."""

    def __init__(self, options: Options) -> None:
        self._states = [_State(r.url, _resolve(r)) for r in options.replicas]
        self._all = range(len(self._states))
        self._balance: Balance[int] = Balance()
        self._connections = len(self._states)  # that are kept
        self._take_line = TAKE_LINE[options.api]
        self._watching: set[asyncio.Task[None]] = set()
        self.outages: list[Outage] = []

    def __len__(self) -> int:
        return len(self._states)

    def url(self, replica: int) -> str:
        """Its URL."""
        return self._states[replica].url

    # --- choosing ---

    def take(self, only: int | None = None) -> int:
        """The replica for the next request, which is outstanding until `give_back`; or `only`."""
        chosen = self._balance.take(self._all if only is None else (only,))
        assert chosen is not None
        return chosen

    def take_other(self, avoid: int) -> int | None:
        """The same for a request that `avoid` did not answer; None where there is no other."""
        return self._balance.take(self._all, avoid)

    def give_back(self, replica: int, connection: Connection | None) -> None:
        """A request has ended; its connection is kept where it can be used again."""
        self._balance.give_back(replica)
        if connection is not None:
            self._keep(replica, connection)

    def take_out(self, replica: int, why: str) -> None:
        """No more requests for it until it answers, as long as another one is in."""
        state = self._states[replica]
        if len(self._states) == 1 or state.outage is not None:
            return
        self._balance.out.add(replica)
        while state.idle:
            state.idle.pop().close()
        state.outage = self._outage(state.url, why)
        task = asyncio.ensure_future(self._bring_back(replica))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def _outage(self, url: str, why: str) -> Outage:
        """A new one; or the last, where it was hardly back: then it was not back."""
        now = perf_counter()
        last = next((outage for outage in reversed(self.outages) if outage.url == url), None)
        if last is not None and last.end is not None and now - last.end < RECHECK_S:
            last.end = None
            return last
        self.outages.append(Outage(url, now, why))
        return self.outages[-1]

    async def _bring_back(self, replica: int) -> None:
        state = self._states[replica]
        while state.outage is not None:
            await asyncio.sleep(RECHECK_S)
            try:
                self._keep(replica, await self.connect(replica))
            except OSError:
                continue
            self._balance.out.discard(replica)
            state.outage.end, state.outage = perf_counter(), None

    # --- connections ---

    async def connect(self, replica: int) -> Connection:
        """A new connection. Raises OSError."""
        address = self._states[replica].address
        return await open_connection(address, CONNECT_TIMEOUT_S, self._take_line)

    def idle(self, replica: int) -> Connection | None:
        """A connection that stands and that nobody uses."""
        idle = self._states[replica].idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    def _keep(self, replica: int, connection: Connection) -> None:
        # So there are never more than twice as many open files as requests in flight.
        if sum(len(state.idle) for state in self._states) >= self._connections:
            connection.close()
        elif connection.usable:
            self._states[replica].idle.append(connection)

    async def connect_all(self, connections: int) -> None:
        """So many, which are kept from now on, shared evenly by the replicas that are in.

        Raises TargetError where there is none at all.
        """
        self._connections = connections
        live = [replica for replica in self._all if replica not in self._balance.out]
        gate, errors = asyncio.Semaphore(CONNECTS_AT_ONCE), [""]

        async def one(replica: int) -> None:
            async with gate:
                if replica in self._balance.out:
                    return
                try:
                    self._states[replica].idle.append(await self.connect(replica))
                except OSError as error:
                    errors.append(in_words(error))
                    self.take_out(replica, errors[-1])

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


def _resolve(replica: Replica) -> tuple[str, int]:
    """The numeric address: names are looked up once, not by every client. Raises TargetError."""
    try:
        found = socket.getaddrinfo(replica.host, replica.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TargetError(f"{replica.url}: the host is not known ({error}).") from error
    return str(found[0][4][0]), replica.port
