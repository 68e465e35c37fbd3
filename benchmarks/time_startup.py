#!/usr/bin/env python3
"""How long orch.py takes to start, as a multiple of `python3 -c pass`; measured in turn.

    python3 benchmarks/time_startup.py [RECIPE.json] [--runs 20] [--python /usr/bin/python3]

The change to the project's .venv that `python3 orch.py` makes is part of it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def seconds(command: list[str]) -> float:
    """How long a command takes."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("recipe", nargs="?", default=str(PROJECT / "recipe_ex/inference_recipe.json"))
    p.add_argument("--runs", type=int, default=20)
    p.add_argument("--python", default=sys.executable)
    arguments = p.parse_args()
    with tempfile.TemporaryDirectory() as output:
        orch = [arguments.python, str(PROJECT / "orch.py")]
        dry_run = [arguments.recipe, "--site", "local", "--output-dir", output, "--dry-run"]
        commands = {
            "python3 -c pass": [arguments.python, "-c", "pass"],
            "orch.py --help": [*orch, "--help"],
            "orch.py --dry-run": [*orch, *dry_run],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.runs):
            for name, command in commands.items():
                taken[name].append(seconds(command))
    base = statistics.median(taken["python3 -c pass"])
    for name, values in taken.items():
        middle = statistics.median(values)
        print(f"{name:<18} median {middle * 1000:6.1f} ms ({min(values) * 1000:.1f} to "
              f"{max(values) * 1000:.1f}, n={len(values)}) = {middle / base:5.2f} x")  # fmt: skip


if __name__ == "__main__":
    main()
