"""Batches as a part of the client service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import Flask

from batch.files import Files
from client.batches.files import FileStore
from client.batches.jobs import Batches
from client.batches.records import BatchRecord
from client.batches.routes import batch_routes
from client.batches.slots import add_slots_route, slots_now
from client.batches.worker import Worker
from client.errors import DoorSilent
from client.handover.door import Door
from client.named_tokens import NamedTokens
from client.settings import ServiceSettings
from contracts.named_tokens import tokens_folder


def add_batches(
    app: Flask, settings: ServiceSettings, tokens: NamedTokens | None, user: Callable[[], str]
) -> Batches | None:
    """Add GET /slots, and if there is a deployment files and batches, which are worked off from now
    on, and return those; `user` says whose request is answered. Raises OSError: its folder cannot
    be read."""
    commands = settings.door / "commands"
    add_slots_route(app, commands, lambda: tokens.limit(user()) if tokens else None, user)
    if settings.deployment is None or tokens is None:
        return None
    folder = tokens_folder(settings.output, settings.deployment).with_name("batches")

    def ready() -> bool:
        try:
            return slots_now(commands).total > 0
        except DoorSilent:
            return False

    def moved() -> bool:
        try:
            return Door(settings.door).forwards()
        except OSError:
            return False

    def start(batch: BatchRecord, source: Path, files: Files, lock: int) -> Worker:
        return Worker(tokens, batch, settings.door / "door", source, files, lock)

    batches = Batches(folder, FileStore(folder), ready, moved, start)
    batches.follow()
    app.register_blueprint(batch_routes(batches, user))
    return batches
