"""A deployment of a group of cells: orch.py itself, as a child, brings it up."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from campaign.units import Process
from contracts.errors import OrchError, ServiceError
from contracts.files import PROJECT
from hpc.campaigns.processes import END_PATIENCE_S, process_of
from hpc.endpoints import OutputDir
from ledger.journal import cannot_write

#: It waits to be told, so that it is in the ledger before it submits anything: when we are killed
#: before that, it reads the end of its input and ends.
_ONCE_TOLD = 'read -r go && exec "$@"'
_LOOK_S = 0.2


class Ended(OrchError):
    """The campaign is to end."""


@dataclass(frozen=True)
class Deployer:
    """Begins deployments; `options`: those of our command line that are also theirs."""

    options: Sequence[str]
    folder: Path
    stop: threading.Event

    def deploy(self, recipe: Path, number: int, begun: Callable[[Process], None]) -> str:
        """Bring up the recipe's deployment and return its id. `begun` is called with the process
        before that submits anything. Raises Ended, and ServiceError with what it said."""
        log = self.folder / f"deployment-{number}.log"
        found = self.folder / f"deployment-{number}.json"
        with _written(log) as said, _written(found) as record:
            child = subprocess.Popen(
                ["bash", "-c", _ONCE_TOLD, "orch", *command_of(recipe, self.options)],
                stdin=subprocess.PIPE,
                stdout=record,
                stderr=said,
                start_new_session=True,  # Ctrl-C is for us to pass on
            )
        assert child.stdin is not None
        with child.stdin:
            begun(process_of(child.pid))
            child.stdin.write(b"go\n")
        self._wait(child)
        if child.returncode != 0:
            raise ServiceError(f"{_last_words(log, child.returncode)} ({log})")
        return str(json.loads(found.read_text())["id"])

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        while child.poll() is None:
            if not self.stop.wait(_LOOK_S):
                continue
            child.terminate()
            try:
                child.wait(END_PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
            raise Ended("the campaign is to end")


def command_of(recipe: Path, options: Sequence[str]) -> list[str]:
    """The command that brings up a recipe's deployment, and prints its record."""
    words = [sys.executable, str(PROJECT / "orch.py"), str(recipe), *options]
    return [*words, "--no-benchmark", "--json"]


def passed_on(given: argparse.Namespace, output: OutputDir, site: str | None) -> list[str]:
    """What it is told of our command line."""
    told = [f"--output-dir={output.path}", f"--queue-timeout={given.queue_timeout}",
            f"--start-timeout={given.start_timeout}"]  # fmt: skip
    return [*told, *same_again(given, site)]


def same_again(given: argparse.Namespace, site: str | None) -> list[str]:
    """The options without which the same command would be another one."""
    named = [] if site is None else ["--site", site]
    return [*named, "--no-monitoring"] if given.no_monitoring else named


def _written(path: Path) -> BinaryIO:
    """A file that a child writes. Raises FileError."""
    try:
        return path.open("wb")
    except OSError as error:
        raise cannot_write(path, error) from error


def _last_words(log: Path, code: int) -> str:
    """The sentence that it ended with."""
    lines = log.read_text(errors="replace").splitlines()
    said = [line.removeprefix("orch: ") for line in lines if line.startswith("orch: ")]
    said = [line for line in said if line != "nothing was submitted"]
    return said[0] if said else f"orch.py ended with exit code {code}"
