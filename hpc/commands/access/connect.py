"""--connect: a port of this machine that leads to a deployment's door, wherever that goes."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import PROJECT
from contracts.live.copy_lines import ways_to_ask
from hpc.connecting.folder import own_folder
from hpc.connecting.places import Here, Place, There
from hpc.connecting.session import Ready, Session
from hpc.connecting.ssh import read_via
from hpc.console import Console, columns
from hpc.endpoints import OutputDir

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Connect, print how the door is reached, and stay until Ctrl-C or the deployment's end. Raises
    UsageError, ServiceError."""
    with own_folder() as folder:
        place = _place(given, output, folder)
        asyncio.run(_until_told(_session(place, given, console)))
    console.tell("connect", "closed")


def _place(given: argparse.Namespace, output: OutputDir, folder: Path) -> Place:
    if given.via is None:
        return Here(output.path)
    via = read_via(given.via, PROJECT.name)
    if via is None:
        raise UsageError(
            f"--via is {given.via!r}, but must be a login node, as ssh knows it, and perhaps the "
            "folder of orch.py there: USER@LOGIN:FOLDER."
        )
    if shutil.which("ssh") is None:
        raise UsageError("there is no ssh on PATH, by which --via comes to a login node.")
    return There(via, given.output_dir, folder, batch=not sys.stdin.isatty())


async def _session(place: Place, given: argparse.Namespace, console: Console) -> None:
    def ready(found: Ready) -> None:
        if given.json:
            console.json({"id": found.deployment, "url": found.url, "link": found.link,
                          "token_file": str(found.token) if found.token else None})  # fmt: skip
            return
        console.tell("connect", f"{found.deployment} is at {found.url} until Ctrl-C")
        for line in columns(_ways(found)):
            console.say(f"  {line}")

    await Session(place, given.connect, console, ready).keep()


def _ways(found: Ready) -> list[list[str]]:
    page = [["page", f"{found.link}   # opens once, within 5 minutes"]] if found.link else []
    token = found.token or Path("none/user.token")
    return [*page, *ways_to_ask(found.url, token, queries=True, native=False)]


async def _until_told(session: Coroutine[None, None, None]) -> None:
    """Let it end by itself, or close it when a signal says so."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(session)
    for signum in _ENDS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signum, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
