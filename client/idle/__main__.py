"""The room in which requests wait for an engine: `python -m client.idle FOLDER MODEL`.

FOLDER is that of the door's sockets (lib/door.cfg): it listens at `waiting` there, and passes on to
`woken`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from client.compatible.engine_client import EngineClient
from client.compatible.serving import serve
from client.compatible.socket_address import SocketAddress
from client.idle.engine_job import EngineFiles
from client.idle.waiting import WaitingRoom
from contracts.errors import OrchError

#: Seconds that an answer may take: the door has a limit of its own.
_LONGEST_S = 86_400.0


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    folder, model = Path(arguments[0]), arguments[1]
    door = EngineClient(SocketAddress(path=str(folder / "woken")), (), _LONGEST_S)
    room = WaitingRoom(EngineFiles(folder), door, model)
    try:
        uvloop.run(serve(SocketAddress(path=str(folder / "waiting")), room.handle))
    except OrchError as error:
        print(f"client.idle: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
