"""An engine that is there only while somebody asks: the door lets requests through once it answers,
and no more before it is ended. What waits meanwhile is in client/idle/waiting.py."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from client.api.answers import Sleeping
from client.door import EngineServers, command, statistics
from client.idle.engine_job import EngineFiles
from client.idle.watch import LOOK_S, IdleWatch
from client.settings import ServiceSettings

#: What lib/door.cfg calls the switch, and the backends whose requests are for an engine.
_SWITCH = "awake/switch"
_FOR_ENGINES = ("engines", "translation", "queries", "benchmarks")


class Sleeper:
    """Looks what there is, and at the clock; for one thread."""

    def __init__(
        self,
        files: EngineFiles,
        commands: Path,
        servers: EngineServers,
        watch: IdleWatch,
        works: Callable[[], bool],
    ) -> None:
        """`commands` is HAProxy's socket; `works`: whether there is work though nobody asks at the
        door: that, too, wants an engine."""
        self._files, self._commands, self._servers = files, commands, servers
        self._watch, self._works = watch, works
        self._job = ""

    def follow(self) -> None:
        """Look from now on, beside everything else."""
        threading.Thread(target=self._look_on, daemon=True).start()

    def _look_on(self) -> None:
        wait = threading.Event()
        while True:
            with contextlib.suppress(OSError):  # HAProxy does not answer: next time
                self.look(time.time())
            wait.wait(LOOK_S)

    def look(self, now: float) -> None:
        """Look once. Raises OSError."""
        job = self._files.read().job
        if job != self._job:
            self._let_through(False)
            self._servers.rest()
            self._job = job
        if not job:
            self._watch.pause("sleeping")
            if self._works():
                self._files.wake()
        elif not self._files.awake:
            self._watch.pause("waking")
            self._let_through(bool(self._servers.up()))
        else:
            self._watch.look(now)

    def rest(self) -> bool:
        """Let no request through any more; False, and all is as before, if there is one still."""
        self._let_through(False)
        under_way = sum(
            int(row["scur"] or 0)
            for row in statistics(self._commands)
            if row["pxname"] in _FOR_ENGINES and row["svname"] == "BACKEND"
        )
        if under_way:
            self._let_through(True)
        return not under_way

    def _let_through(self, whether: bool) -> None:
        command(self._commands, f"set server {_SWITCH} state {'ready' if whether else 'maint'}")
        self._files.let_through(whether)


def sleeping(settings: ServiceSettings) -> Sleeping | None:
    """Return what /health says while there is no engine that answers, and none is to be; None if
    one is to be there at all times, or is there."""
    if not settings.on_request:
        return None
    files = EngineFiles(settings.door)
    if files.awake:
        return None
    engine = files.read()
    waking = f"the engine's job {engine.job} is on its way"
    return Sleeping(
        status="waking" if engine.job else "sleeping",
        reason=waking if engine.job else engine.problem or "the first request begins an engine",
        model=settings.model,
        deployment=settings.deployment,
        job_id=settings.job_id,
        ollama_job=engine.job or None,
    )
