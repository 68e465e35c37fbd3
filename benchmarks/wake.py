#!/usr/bin/env python3
"""How long the first request waits for an engine that is there only while somebody asks.

    sudo PYTHONPATH=tests:tests/cluster .venv/bin/python benchmarks/wake.py [--times 10]

Real Slurm (tests/cluster/testcluster, which it sets up and takes down), real Ollama, and a tiny
model; `on_request` with the shortest time until the engine is ended again. Each wake-up is from a
request that is sent to its answer, of one token, and is divided by the times of files: the
engine's script begins (logs/ID.started), and it publishes its address (ollama_ip_ID.txt).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from time import time

from chains import Chain
from events import PATIENCE_S
from handover import installed
from measuring import Figures
from project import Project
from slurmcluster import wait_until

IDLE_S = 5
#: One token: a model of random weights ends no answer by itself.
BODY = json.dumps({"prompt": "Hi", "options": {"num_predict": 1}})
ASK = ["-H", "Content-Type: application/json", "-d", BODY]


def wake(project: Project, url: str, chain: Chain) -> dict[str, float]:
    """What each step took, in seconds."""
    sent = time()
    project.curl(f"{url}/query", *ASK)
    answered = time()
    job = (chain.folder / "jobs").read_text().split()[-1].partition(";")[0]
    files = project.output / f"logs/{job}.started", project.output / f"ollama_ip_{job}.txt"
    times = [sent, *(path.stat().st_mtime for path in files), answered]
    steps = [after - before for before, after in itertools.pairwise(times)]
    wait_until(lambda: project.curl(f"{url}/health")["status"] == "sleeping", PATIENCE_S, "its end")
    names = ("until its job begins", "until it publishes", "until the answer")
    return {**dict(zip(names, steps, strict=True)), "request to answer": answered - sent}


def woken(times: int) -> Iterator[dict[str, float]]:
    """Each wake-up of a deployment; the first has the model imported, too."""
    none = {"n_clients": 1, "n_requests_per_client": 0}
    with installed() as project:
        project.leaks.begin()
        recipe = project.recipe(idle_timeout=f"{IDLE_S}s", on_request=True, time="1:00:00", **none)
        result = project.orch(recipe)
        if result.returncode != 0:
            sys.exit(f"orch ended with {result.returncode}: {result.stderr}")
        chain = Chain(project)
        for _ in range(times):
            yield wake(project, chain.find(), chain)
        project.orch("--stop", chain.id)
        project.assert_nothing_left()


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--times", type=int, default=10)
    given = p.parse_args()
    figures = Figures()
    for steps in woken(given.times):
        print("  ".join(f"{name} {took:.2f}" for name, took in steps.items()), flush=True)
        for name, took in steps.items():
            figures.add(f"{name}, s", took)
    return 0 if figures.report(f"{given.times} wake-ups") else 1


if __name__ == "__main__":
    sys.exit(main())
