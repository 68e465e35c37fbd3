"""--batch on a deployment that is there: this process becomes the worker, so that its exit codes,
its words and the signals that it gets are the worker's own."""

from __future__ import annotations

import argparse
import os
import sys

from contracts.errors import UsageError
from contracts.files import PROJECT
from contracts.job_files import authority_file, user_token_file
from hpc.console import Console
from hpc.deployments.refreshing import live_record
from hpc.endpoints import OutputDir


def run(given: argparse.Namespace, output: OutputDir, _console: Console) -> None:
    """Work a file off through the door of a deployment, by its owner's token. Raises UsageError."""
    record = live_record(str(given.recipe or ""), output)
    if record.client is None:
        raise UsageError(f"{record.id} is {record.state}, not ready; wait with --attach.")
    token_file = user_token_file(output.path, record.id)
    command = [sys.executable, "-m", "batch", str(given.batch.absolute())]
    command += ["--url", record.client, "--model", record.model]
    for option, path in (
        ("--out", given.out and given.out.absolute()),
        ("--token-file", token_file),
        ("--ca", authority_file(token_file)),
    ):
        if path and (option == "--out" or path.exists()):
            command += [option, str(path)]
    os.chdir(PROJECT)  # where the package is
    os.execv(sys.executable, command)
