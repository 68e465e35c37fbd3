"""The monitoring's job script for those who start it by hand: `python3 -m hpc.commands.stack PARTS`
renders it and prints its path, for monitoring_stack.sh, prometheus_service.sh and
pushgateway_service.sh.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from contracts.errors import OrchError, UsageError
from contracts.files import write_atomically
from hpc.console import Console
from hpc.deployment import LOOPBACK, common_values
from hpc.endpoints import OutputDir
from hpc.planning.monitoring import plan_monitoring
from hpc.planning.plan import security_at
from hpc.recipe.sections import Monitoring
from hpc.rendering import render
from hpc.scheduler.registry import kind_of
from hpc.site import Site, load_site

#: What its targets and files are called: it belongs to no deployment.
NAME = "by-hand"
#: As the #SBATCH lines of the scripts say it.
DEFAULT_TIME_S = 4 * 3600


def render_stack(wanted: Sequence[str], site: Site, output: OutputDir, console: Console) -> Path:
    """Write the job script of those parts; its path. The first part must be there, for the others a
    sentence is said. Raises UsageError."""
    found = plan_monitoring(Monitoring(), site, wanted=True)
    parts = [part for part in wanted if part in found.parts]
    if wanted[0] not in parts:
        raise UsageError(f"{wanted[0]} cannot be had here", list(found.missing))
    for part in set(wanted) - set(parts):
        console.tell("WARNING", f"{part} cannot be had here: the rest comes up without it")
    output.prepare()
    plan = replace(found, parts=frozenset(parts))
    path = output.path / "scripts" / f"{NAME}-{os.getpid()}.sh"
    kind = kind_of(site.scheduler)
    values = common_values(NAME, site, output, plan)
    if not kind.in_a_job():  # a login node, which everybody reaches
        values["bind"] = LOOPBACK
    text = render(
        "monitoring.sbatch.j2",
        header=[],
        script=path,
        time_seconds=kind.seconds_of_this_job() or DEFAULT_TIME_S,
        parts=sorted(parts),
        qdrant_key="",
        security=security_at(site),
        tls=bool(site.tls),
        **values,
    )
    write_atomically(path, text, mode=0o755)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Render, and print the path. Returns the exit code."""
    p = argparse.ArgumentParser(prog="python3 -m hpc.commands.stack", allow_abbrev=False)
    p.add_argument("parts", help="such as prometheus,grafana; the first must be there")
    p.add_argument("--site", metavar="NAME", help="profile in sites/, or the path of one")
    p.add_argument("--output-dir", metavar="DIR", default="output", help="default: output")
    given = p.parse_args(argv)
    console = Console(quiet_stdout=True)
    try:
        output = OutputDir(Path(given.output_dir).absolute())
        path = render_stack(given.parts.split(","), load_site(given.site), output, console)
    except OrchError as error:
        console.error(error.message, error.details)
        return error.exit_code
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
