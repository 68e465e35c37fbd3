"""Where a deployment's output directory is: on this host, or on a login node that ssh comes to."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from contracts.errors import ServiceError, UsageError
from contracts.files import PROJECT, write_whole
from contracts.job_files import TOKEN, authority_file
from hpc.connecting.address import Address, read_address
from hpc.connecting.splice import Route
from hpc.connecting.ssh import NAME, Ssh, Unreachable, Via, sentence_of

#: An exit code that neither orch.py nor a shell has.
_NO_ORCH = 66
_CERTIFICATE = "-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s-]+"


class Place(Protocol):
    """What has the output directory, and a way to the door."""

    #: For people: between a door and us; "" if there is nothing.
    through: str

    async def open(self) -> None:
        """Come there. Raises Unreachable."""

    async def lost(self) -> str:
        """Return, once there is no way there any more, why."""

    async def address(self, deployment: str) -> Address:
        """What orch.py --address says there. Raises UsageError, ServiceError, Unreachable."""

    async def token(self, address: Address) -> Path | None:
        """A file of this host with the token, its header and perhaps the certificate of the
        authority beside it; None if none is asked for. Raises ServiceError, Unreachable."""

    async def route(self, address: Address) -> Route:
        """A way to the door. Raises Unreachable."""

    async def other_route(self, address: Address) -> Route | None:
        """Another one, if the door does not answer on that; None if there is none. Raises
        Unreachable."""

    def stands(self, route: Route) -> bool:
        """Whether it is there still."""

    async def leave(self, route: Route) -> None:
        """Have no new connection on a way; those that are open go on. Raises Unreachable."""

    async def close(self) -> None:
        """Close all that was opened."""


class Here:
    """This host: doors are reached from it as they are, with no ssh."""

    through = ""

    def __init__(self, output: Path) -> None:
        self._output = output

    async def open(self) -> None:
        """See Place."""

    async def lost(self) -> str:
        """See Place."""
        await asyncio.Event().wait()
        return ""

    async def address(self, deployment: str) -> Address:
        """See Place."""
        words = [str(PROJECT / "orch.py"), *_question(deployment, str(self._output))]
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await child.communicate()
        return _answer(child.returncode or 0, out.decode(), sentence_of(err), "orch.py")

    async def token(self, address: Address) -> Path | None:
        """See Place."""
        return Path(address.token_file) if address.token_file else None

    async def route(self, address: Address) -> Route:
        """See Place."""
        return Route(*address.door)

    async def other_route(self, address: Address) -> Route | None:
        """See Place."""
        return None

    def stands(self, route: Route) -> bool:
        """See Place."""
        return True

    async def leave(self, route: Route) -> None:
        """See Place."""

    async def close(self) -> None:
        """See Place."""


class There:
    """A login node: doors are reached from it, or, if it may not pass that on, from their own
    hosts, by ssh through it."""

    def __init__(self, via: Via, output: str, folder: Path, *, batch: bool) -> None:
        self._via, self._output, self._folder = via, output, folder
        self._ssh = Ssh(via.host, folder / "login", batch=batch)
        #: ssh to doors' own hosts, and the way of each route.
        self._hops: list[Ssh] = []
        self._ways: dict[Route, Ssh] = {}
        self.through = f"ssh to {via.host}"

    async def open(self) -> None:
        """See Place."""
        await self._ssh.open()

    async def lost(self) -> str:
        """See Place."""
        await self._ssh.lost()
        return f"ssh to {self._via.host} has ended: {self._ssh.last_words}"

    async def address(self, deployment: str) -> Address:
        """See Place."""
        words = shlex.join(["python3", "orch.py", *_question(deployment, self._output)])
        folder = shlex.quote(self._via.folder)
        script = f"cd -- {folder} && test -e orch.py || exit {_NO_ORCH}; exec {words}"
        code, out, said = await self._ssh.run(script)
        if code == _NO_ORCH:
            raise UsageError(
                f"there is no orch.py in {self._via.folder} on {self._via.host}; name its folder: "
                f"--via {self._via.host}:FOLDER."
            )
        return _answer(code, out, said, f"orch.py on {self._via.host}")

    async def token(self, address: Address) -> Path | None:
        """See Place. Token and certificate come by what `cat` prints; they are in no command."""
        if address.token_file is None:
            return None
        token = self._folder / "user.token"
        word = await self._read(address.token_file, TOKEN)
        write_whole(token, [f"{word}\n"], 0o600)
        write_whole(token.with_name("user.header"), [f"Authorization: Bearer {word}\n"], 0o600)
        if address.ca is not None:
            text = await self._read(address.ca, _CERTIFICATE)
            write_whole(authority_file(token), [f"{text}\n"], 0o600)
        return token

    async def _read(self, path: str, pattern: str) -> str:
        code, text, said = await self._ssh.run(f"exec cat -- {shlex.quote(path)}")
        if code != 0 or not re.fullmatch(pattern, text.strip()):
            why = said if code != 0 else "it holds something else"
            raise ServiceError(f"cannot read {path} on {self._via.host}: {why}.")
        return text.strip()

    async def route(self, address: Address) -> Route:
        """See Place: from the login node, unless the door of before was reached from its host."""
        if self._hops and (route := await self.other_route(address)):
            return route
        return await self._by(self._ssh, address.door)

    async def other_route(self, address: Address) -> Route | None:
        """See Place: from the door's own host."""
        host, _ = address.door
        _, user, _ = await self._ssh.run("exec id -un")
        if not re.fullmatch(NAME, user.strip()):
            return None
        socket = self._folder / f"node{len(self._hops)}"
        hop = self._ssh.behind(host, user.strip(), socket)
        try:
            await hop.open()
        except Unreachable as error:
            raise Unreachable(f"{self._ssh.last_words}; {error.message}") from error
        self._hops.append(hop)
        return await self._by(hop, address.door)

    async def _by(self, ssh: Ssh, door: tuple[str, int]) -> Route:
        route = await ssh.forward(*door)
        self._ways[route] = ssh
        return route

    def stands(self, route: Route) -> bool:
        """See Place."""
        return route in self._ways and self._ways[route].stands

    async def leave(self, route: Route) -> None:
        """See Place."""
        await self._ways.pop(route).cancel(route)

    async def close(self) -> None:
        """See Place."""
        for ssh in (*self._hops, self._ssh):
            await ssh.close()
        self._hops.clear()
        self._ways.clear()


def _question(deployment: str, output: str) -> Sequence[str]:
    given = [deployment] if deployment else []
    return ["--address", *given, "--json", "--output-dir", output]


def _answer(code: int, out: str, said: str, source: str) -> Address:
    """What orch.py has printed, or else its sentence as an error."""
    if out.strip():
        return read_address(out, source)
    if code == UsageError.exit_code:
        raise UsageError(f"{said}.")
    raise ServiceError(f"{source} tells no address: {said}.")
