"""--link: a link by which a browser opens the page of a deployment, once."""

from __future__ import annotations

import argparse

from contracts.errors import ServiceError
from contracts.job_files import user_token_file
from hpc.connecting.link import make_link
from hpc.console import Console
from hpc.deployments.refreshing import live_record
from hpc.endpoints import OutputDir


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Print the link. Raises UsageError, SchedulerError, ServiceError, NoAnswer."""
    record = live_record(given.link, output)
    if record.client is None:
        raise ServiceError(f"{record.id} has no address yet; ask again once --status shows one.")
    link = make_link(record.client, user_token_file(output.path, record.id))
    if given.json:
        console.json({"id": record.id, "url": link.url, "expires": link.expires})
        return
    console.tell("orch", f"the page of {record.id}, opened once within five minutes:")
    console.say(link.url)
