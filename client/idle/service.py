"""Idleness as a part of the client service."""

from __future__ import annotations

from collections.abc import Callable

from client.door import EngineServers
from client.handover.door import Door
from client.idle.engine_job import EngineFiles
from client.idle.sleeping import Sleeper
from client.idle.watch import IdleWatch, seen_at
from client.settings import ServiceSettings
from contracts.job_files import idle_file


def watch_idle(
    settings: ServiceSettings, works: Callable[[], bool], servers: EngineServers
) -> None:
    """Begin, if the deployment, or its engine, is to end when nobody asks. `works`: whether it is
    at work though nobody asks at the door."""
    if settings.idle_s is None or settings.deployment is None:
        return
    commands, told = settings.door / "commands", idle_file(settings.output, settings.deployment)
    seen, said = seen_at(commands, works, lambda: bool(servers.up())), settings.door / "idle"
    if not settings.on_request:
        door = Door(settings.door)

        def moved() -> bool:
            try:
                return door.forwards()
            except OSError:  # while HAProxy does not say it, somebody may ask here
                return False

        IdleWatch(settings.idle_s, seen, told, said, moved=moved).follow()
        return
    watch = IdleWatch(settings.idle_s, seen, told, said, lambda: sleeper.rest())
    sleeper = Sleeper(EngineFiles(settings.door), commands, servers, watch, works)
    sleeper.follow()
