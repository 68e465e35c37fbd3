"""--link: a link by which a browser opens the page of a deployment, once."""

from __future__ import annotations

import argparse

from contracts.errors import ServiceError
from hpc.console import Console
from hpc.deployments.refreshing import live_record
from hpc.endpoints import OutputDir
from hpc.web import call


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Print the link. Raises UsageError, SchedulerError, ServiceError, NoAnswer."""
    record = live_record(given.link, output)
    if record.client is None:
        raise ServiceError(f"{record.id} has no address yet; ask again once --status shows one.")
    folder = output.path / "deployments" / record.id
    answer = call("POST", f"{record.client}/links", token_file=folder / "user.token")
    path, expires = answer.json.get("path"), answer.json.get("expires")
    if answer.status != 201 or not isinstance(path, str) or not isinstance(expires, (int, float)):
        raise ServiceError(f"{record.client} gives no link: {answer.error}.")
    link = f"{record.client}{path}"
    if given.json:
        console.json({"id": record.id, "url": link, "expires": expires})
        return
    console.tell("orch", f"the page of {record.id}, opened once within five minutes:")
    console.say(link)
