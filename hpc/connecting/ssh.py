"""ssh to a host: one connection of the system's ssh, for commands that run there and for forwards.

What is asked of a connection that stands (its control socket) is asked with no configuration file:
the user's own says how to come to the host, and might forward ports of its own.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import ServiceError
from hpc.connecting.splice import Route

#: Names of hosts and users for ssh: no option, nothing of a shell.
NAME = "[A-Za-z0-9_][A-Za-z0-9._-]*"
_VIA = re.compile(f"(?P<host>(?:{NAME}@)?{NAME})(?::(?P<folder>.+))?")
#: It finds out within 15 s that the other side is gone.
_ALIVE = ("ServerAliveInterval=5", "ServerAliveCountMax=3", "ConnectTimeout=20")
#: Nothing but what is asked for here, whatever the user's configuration has for this host.
_ALONE = (
    *("ControlMaster=yes", "ControlPersist=no", "ClearAllForwardings=yes", "RemoteCommand=none"),
    *("PermitLocalCommand=no", "ForwardAgent=no", "ForwardX11=no", "RequestTTY=no"),
)
_COMMAND_S = 60.0
#: Between what a login shell may print and the answer.
_MARK = "orch-answer:"
_LOOK_S = 0.05


class Unreachable(ServiceError):
    """ssh does not come to the host, or has lost it."""


@dataclass(frozen=True)
class Via:
    """A login node, and the folder there in which orch.py is."""

    host: str
    folder: str


def read_via(text: str, folder: str) -> Via | None:
    """What USER@LOGIN:FOLDER says; `folder` if it names none. None if it is none."""
    found = _VIA.fullmatch(text)
    if not found or not text.isprintable():
        return None
    return Via(found["host"], (found["folder"] or folder).removeprefix("~/"))


class Ssh:
    """The connection. `socket`: its control socket, in a folder of mode 700 for all that it makes.
    `batch`: nobody is asked for a password."""

    def __init__(
        self, host: str, socket: Path, *, batch: bool, options: Sequence[str] = ()
    ) -> None:
        self.host = host
        self._options = [*_ALIVE, *_ALONE, f"BatchMode={'yes' if batch else 'no'}", *options]
        self._socket = socket
        self._said = socket.with_name(f"{socket.name}.log")
        self._master: asyncio.subprocess.Process | None = None
        self._forwards = 0

    @property
    def control(self) -> list[str]:
        """Options of ssh that use this connection, and no file."""
        return ["-F", "none", "-S", str(self._socket)]

    async def open(self) -> None:
        """Connect, and return once it stands. Raises Unreachable with ssh's own words."""
        try:
            self._master = await self._begin()
        except OSError as error:  # no room, or the folder was cleaned away
            raise Unreachable(f"ssh to {self.host} does not begin: {error}.") from error
        while not self._socket.exists():
            if self._master.returncode is not None:
                raise Unreachable(f"ssh does not come to {self.host}: {self.last_words}.")
            await asyncio.sleep(_LOOK_S)

    async def _begin(self) -> asyncio.subprocess.Process:
        self._socket.unlink(missing_ok=True)
        options = [word for option in self._options for word in ("-o", option)]
        with self._said.open("wb") as said:
            # It ends when we do, however that is: the command reads what we hold open.
            return await asyncio.create_subprocess_exec(
                *("ssh", "-S", str(self._socket), *options, "-T", self.host, "cat"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=said,
            )

    async def lost(self) -> None:
        """Return once it has ended."""
        if self._master is not None:
            await self._master.wait()

    @property
    def stands(self) -> bool:
        """Whether it has been opened, and not ended."""
        return self._master is not None and self._master.returncode is None

    @property
    def last_words(self) -> str:
        """What ssh has said last."""
        try:
            return sentence_of(self._said.read_bytes())
        except OSError:  # cleaned away
            return sentence_of(b"")

    async def run(self, script: str) -> tuple[int, str, str]:
        """Run a script of sh there: exit code, what it printed, its sentence on stderr. Raises
        Unreachable if ssh has failed, ServiceError if the script does not end."""
        command = f"sh -c {shlex.quote(f'echo {_MARK}; {script}')}"
        code, out, err = await self._ssh(*self.control, "-T", self.host, command)
        return code, out.partition(f"{_MARK}\n")[2], err

    def behind(self, host: str, user: str, socket: Path) -> Ssh:
        """ssh to a host that this one comes to, by this connection. Its key is believed as it comes
        from there, and not kept."""
        jump = shlex.join(["ssh", *self.control, "-W", "[%h]:%p", self.host])
        options = [
            f"ProxyCommand={jump}",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={socket.with_name('known_hosts')}",
        ]
        return Ssh(f"{user}@{host}", socket, batch=True, options=options)

    async def forward(self, host: str, port: int) -> Route:
        """A socket that leads to a host's port from there. Raises Unreachable, ServiceError."""
        self._forwards += 1
        socket = self._socket.with_name(f"{self._socket.name}.{self._forwards}")
        socket.unlink(missing_ok=True)
        code, _, err = await self._control("forward", f"{socket}:{host}:{port}")
        if code != 0:
            raise Unreachable(f"ssh to {self.host} does not forward {host}:{port}: {err}.")
        return Route(host, port, str(socket))

    async def cancel(self, route: Route) -> None:
        """Have no more connections there; those that are open go on."""
        await self._control("cancel", f"{route.socket}:{route.host}:{route.port}")

    async def close(self) -> None:
        """End it, and all that goes through it."""
        if self._master is not None and self.stands:
            self._master.terminate()
            await self._master.wait()

    async def _control(self, what: str, forward: str) -> tuple[int, str, str]:
        return await self._ssh(*self.control, "-O", what, "-L", forward, self.host)

    async def _ssh(self, *words: str) -> tuple[int, str, str]:
        child = await asyncio.create_subprocess_exec(
            "ssh",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(child.communicate(), _COMMAND_S)
        except asyncio.TimeoutError as error:
            child.kill()
            await child.wait()
            raise ServiceError(f"{self.host} does not answer in {_COMMAND_S:g} s.") from error
        if child.returncode == 255:
            raise Unreachable(f"ssh to {self.host} has failed: {sentence_of(err)}.")
        return child.returncode or 0, out.decode(errors="replace"), sentence_of(err)


def sentence_of(said: bytes) -> str:
    """What a program has said: orch.py's sentence, or the last line; only what a terminal shows,
    without a full stop."""
    lines = [line.strip() for line in said.decode(errors="replace").split("\n") if line.strip()]
    ours = [line.removeprefix("orch: ") for line in lines if line.startswith("orch: ")]
    words = next(iter([*ours, *reversed(lines)]), "it gives no reason")
    return "".join(filter(str.isprintable, words)).rstrip(".")[:400]
