"""A campaign's report, written by a process of its own: it loads what a login node need not."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from campaign.report import options
from contracts.errors import Regression
from contracts.files import PROJECT
from hpc.console import Console


def options_of(given: argparse.Namespace, folder: Path) -> list[str]:
    """Return what the report of the campaign in `folder` is asked for, as its command has it.
    Raises UsageError if that cannot be asked."""
    against, most = given.against, given.fail_on_regression
    options.check(against, most, folder)
    asked = (
        [] if against is None else [f"--against={options.campaign_of(against, folder).resolve()}"]
    )
    return [*asked, *([] if most is None else [f"--fail-on-regression={most}"])]


def report(folder: Path, asked: Sequence[str], console: Console) -> Regression | None:
    """Have it written, and print what it says of another campaign. A regression is returned, for
    what failed comes first; if no report can be written, a line says so."""
    done = subprocess.run(
        [sys.executable, "-m", "campaign.report", str(folder), *asked],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    first, *details = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode not in (0, Regression.exit_code):
        console.tell("WARNING", f"no report was written: {[first, *details][-1]}")
        return None
    for line in done.stdout.splitlines()[:-1]:
        console.say(line)
    console.tell("orch", f"report: {folder / 'report.html'}")
    if done.returncode == 0:
        return None
    return Regression(first.removeprefix("report: "), [line.strip() for line in details])
