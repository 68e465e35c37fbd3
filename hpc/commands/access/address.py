"""--address: where the door of a deployment is now."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from contracts.errors import SchedulerError, ServiceError
from hpc.connecting.address import address_of
from hpc.console import Console
from hpc.deployments.refreshing import assert_live, chosen_record, refresh
from hpc.endpoints import OutputDir


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Print the URL of the client service, with --json all that connects to it. Raises UsageError
    if the deployment has ended, ServiceError if it has none yet, SchedulerError, once it is
    printed, if a scheduler does not answer."""
    record, problem = chosen_record(given.address, output), None
    try:
        refresh([record], output)
    except SchedulerError as error:
        problem = error
    found = address_of(record, output)
    if given.json:
        console.json(asdict(found))
    elif found.url is not None:
        console.say(found.url)
    if problem is not None:
        raise SchedulerError(f"{problem.message}; the address is the one that was last recorded.")
    assert_live(record)
    if found.url is None:
        raise ServiceError(
            f"{record.id} has no address yet (it is {record.state}); wait for it with "
            f"{output.command('--attach', record.id)}"
        )
