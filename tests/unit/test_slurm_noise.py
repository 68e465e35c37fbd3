"""Whatever a site prints around the answers of Slurm's commands: each is read as if alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.scheduler.slurm.answers import parse_sacct, parse_sbatch, parse_sinfo, parse_squeue

LIB = Path(__file__).resolve().parents[2] / "lib"
LIBRARY = f". {LIB}/service.sh; . {LIB}/scheduler/slurm.sh"
NOISE = {
    "deprecation": "squeue: warning: --states=all is deprecated, use --state=all",
    "alias": "NOTE: 'sbatch' is an alias of '/opt/site/bin/sbatch-wrapper'",
    "banner": "*" * 30 + "\n*  Welcome to the cluster!  *\n" + "*" * 30,
    "table": "| queue | state |\n|-------|-------|",
    "numbers": "There are 12 jobs before yours; 3 of 4 nodes are up",
    "maintenance": "Maintenance on 2026-12-01|all day|sorry",
    "blank": "\n   \n",
    "control": "\x1b[31mattention\x1b[0m \x07",
    "letters": "Grüße vom Rechenzentrum ✨",
}
PLACES = ("before", "between", "after", "everywhere")


def around(lines: list[str], noise: str, place: str) -> str:
    """The lines of an answer with noise at a place."""
    head = [noise] if place in ("before", "everywhere") else []
    tail = [noise] if place in ("after", "everywhere") else []
    between = place in ("between", "everywhere")
    body = [part for line in lines[:-1] for part in ((line, noise) if between else (line,))]
    return "\n".join([*head, *body, lines[-1], *tail]) + "\n"


def bash_state(text: str) -> str:
    """What a job script makes of squeue's answer about job 7."""
    script = f'{LIBRARY}; squeue() {{ printf %s "$SAID"; }}; job_state 7'
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "SAID": text}, capture_output=True, text=True
    )
    return done.stdout.strip()


def jobs_named(text: str) -> list[str]:
    """What a job script makes of the answer of a squeue that is too old for --me."""
    old = 'squeue() { [[ "$*" != *--me* ]] && printf %s "$SAID"; }'
    done = subprocess.run(
        ["bash", "-c", f"{LIBRARY}; {old}; jobs_named demo.client"],
        env={**os.environ, "SAID": text}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


READERS: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "sbatch": (parse_sbatch, ["7;alpha"]),
    "sbatch, plain": (parse_sbatch, ["Submitted batch job 7"]),
    "squeue": (
        lambda text: parse_squeue(text).jobs,
        [
            "JOBID|STATE|NODELIST|START_TIME|TIME_LEFT|NAME|REASON",
            "7|RUNNING|gpu1|2026-11-27T10:00:00|59:00|demo.ollama|None",
            "8|PENDING||N/A|1:00:00|demo.client|Resources",
        ],
    ),
    "squeue, names": (jobs_named, ["7", "8"]),
    "sacct": (parse_sacct, ["7|COMPLETED|gpu1|demo.ollama", "8|CANCELLED by 0|cpu1|demo.client"]),
    "sinfo": (parse_sinfo, ["gpu|up|1-00:00:00|64|gpu:4", "cpu*|up|infinite|128+|(null)"]),
    "job_state": (bash_state, ["JOBID|STATE", "7|RUNNING"]),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("reader", READERS)
def test_noise_changes_nothing(reader: str, noise: str, place: str) -> None:
    read, lines = READERS[reader]
    alone = read("\n".join(lines) + "\n")
    assert alone
    assert read(around(lines, NOISE[noise], place)) == alone
