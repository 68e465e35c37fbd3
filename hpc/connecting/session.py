"""A connection that is kept: it comes again if ssh is lost, and goes where the deployment goes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import ServiceError
from hpc.connecting.address import Address
from hpc.connecting.link import make_link
from hpc.connecting.places import Place
from hpc.connecting.splice import LOOPBACK, Splice
from hpc.connecting.ssh import Unreachable
from hpc.console import Console
from hpc.web import NoAnswer, call

#: Seconds between two questions for the address: as a rule, and if there is reason to doubt it, or
#: TLS would hide that. Each asks the scheduler.
LOOK_S, SOON_S = 60.0, 15.0
#: Seconds before ssh is tried again.
FIRST_S, MOST_S = 1.0, 30.0


@dataclass(frozen=True)
class Ready:
    """The door as it is reached here. `link`: opens its page, once; None if it has none."""

    deployment: str
    url: str
    link: str | None
    token: Path | None


class Session:
    """What --connect does. `ready` is called once, when the door is reached."""

    def __init__(
        self, place: Place, deployment: str, console: Console, ready: Callable[[Ready], None]
    ) -> None:
        self._place, self._deployment = place, deployment
        self._console, self._ready = console, ready
        self._doubt = asyncio.Event()
        self._splice = Splice(self._doubt.set)
        self._token: Path | None = None
        self._url = ""
        self._connected = False
        self._said = ""

    async def keep(self) -> None:
        """Connect, and stay so until the deployment ends. Raises UsageError, ServiceError of the
        first time; what fails later is said, and tried again."""
        pause_s = FIRST_S
        try:
            while True:
                try:
                    await self._place.open()
                    pause_s = FIRST_S
                    await self._unless_lost(self._follow())
                    return
                except Unreachable as error:
                    if not self._connected:
                        raise
                    self._splice.route = None
                    await self._place.close()
                    self._tell(f"{error.message} It is tried again in {pause_s:g} s.")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MOST_S)
        finally:
            await self._splice.close()
            await self._place.close()

    async def _unless_lost(self, work: Coroutine[None, None, None]) -> None:
        """Raises Unreachable if the way there is lost while it works."""
        working, lost = asyncio.ensure_future(work), asyncio.ensure_future(self._place.lost())
        try:
            await asyncio.wait({working, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Unreachable(f"{lost.result()}.")
            working.result()
        finally:
            working.cancel()
            lost.cancel()
            await asyncio.gather(working, lost, return_exceptions=True)

    async def _follow(self) -> None:
        """Have the splice lead to the door of the time, until the deployment has ended. Raises as
        `keep`."""
        while True:
            self._doubt.clear()
            asked = time.monotonic()
            try:
                address = await self._place.address(self._deployment)
                if not address.live:
                    break
                await self._go_to(address)
            except Unreachable:
                raise
            except ServiceError as error:
                if not self._connected:
                    raise
                self._tell(error.message)
            await asyncio.sleep(asked + SOON_S - time.monotonic())
            if self._splice.route is not None and not self._url.startswith("https:"):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._doubt.wait(), LOOK_S - SOON_S)
        if address.state == "failed":
            raise ServiceError(f"{address.id} has failed; see its logs (--logs).")
        self._tell(f"{address.id} is {address.state}")

    async def _go_to(self, address: Address) -> None:
        self._deployment = address.id  # from now on no other one, if none was named
        if address.url is None:
            self._tell(f"{address.id} is {address.state}, and has no address now")
        else:
            await self._take(address)

    async def _take(self, address: Address) -> None:
        """Go to the door of an address, if that is not where we are."""
        before = self._splice.route
        if address.url == self._url and before is not None and self._place.stands(before):
            return
        route, self._url = await self._place.route(address), address.url or ""
        if not self._connected:
            self._token = await self._place.token(address)
            await self._splice.listen(route.port)
        self._splice.route = route
        if before is not None and self._place.stands(before):
            await self._place.leave(before)
        if not self._connected:
            await self._begin(address)
            self._connected = True
        self._tell(f"{self._local} leads to {self._url}{self._by}")

    async def _begin(self, address: Address) -> None:
        """See that the door answers, if need be by another way, and say how it is reached."""
        try:
            await self._probe()
        except NoAnswer as error:
            await self._other_way(address, error)
        link = await self._link(self._token) if self._token is not None else None
        self._ready(Ready(address.id, self._local, link, self._token))

    async def _link(self, token: Path) -> str | None:
        """None if the client service has no page."""
        try:
            return (await asyncio.to_thread(make_link, self._local, token)).url
        except ServiceError:
            return None

    async def _other_way(self, address: Address, error: NoAnswer) -> None:
        """Raises ServiceError if there is none, or the door does not answer there either."""
        words = f"{address.url} is not reached{self._by}"
        try:
            route = await self._place.other_route(address)
        except Unreachable as other:
            raise ServiceError(f"{words}: {other.message}") from error
        if route is None:
            raise ServiceError(f"{words}: {error.message}.") from error
        self._splice.route = route
        await self._probe()

    async def _probe(self) -> None:
        """Ask the door through the port that everybody uses. Raises NoAnswer."""
        url = f"{self._local}/health"
        await asyncio.to_thread(call, "GET", url, token_file=self._token)

    @property
    def _local(self) -> str:
        scheme = self._url.partition("://")[0]
        return f"{scheme}://{LOOPBACK}:{self._splice.port}"

    @property
    def _by(self) -> str:
        return f" by {self._place.through}" if self._place.through else ""

    def _tell(self, words: str) -> None:
        """Say it, but not twice."""
        if words != self._said:
            self._console.tell("connect", words)
        self._said = words
