#!/usr/bin/env python3
"""How long until a deployment is ready: by hand in a tight loop, and by orch; in one run, in turn.

    python3 benchmarks/time_to_ready.py RECIPE.json [--site NAME] [--runs 5] [--long-wait 180]

By hand: the same job scripts, submitted with sbatch (or run with bash on the local site) and asked
in a loop without a pause. orch: from the start of `python3 orch.py` to its line that says so; an
observer of this benchmark asks the services in the same tight loop, to see when they really
answered. `--long-wait S` then holds jobs in the queue for S seconds and counts the scheduler's
commands that orch calls, by standing in front of them on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV_PYTHON = PROJECT / ".venv" / "bin" / "python"
if VENV_PYTHON.exists() and Path(sys.prefix) != PROJECT / ".venv":
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])
sys.path.insert(0, str(PROJECT))

from clientServiceHandler import probe_client  # noqa: E402
from contracts.job_files import internal_token_file  # noqa: E402
from hpc.deployments.records import Record, load_records  # noqa: E402
from hpc.endpoints import OutputDir  # noqa: E402
from hpc.planning.plan import make_plan  # noqa: E402
from hpc.recipe.reading import load_recipe  # noqa: E402
from hpc.site import load_site  # noqa: E402
from ollamaService import probe_ollama  # noqa: E402

ORCH = [sys.executable, str(PROJECT / "orch.py")]


def tight_wait(output: OutputDir, deployment: str, jobs: dict[str, str], model: str) -> float:
    """The moment at which both services answered, asked for without a pause."""
    token = internal_token_file(output.path, deployment)
    for service in ("ollama", "client"):
        while not (at := output.addresses(service, jobs[service])):
            pass
        if service == "ollama":
            while isinstance(probe_ollama(f"http://{at[0]}", model, token), str):
                pass
        else:
            while isinstance(probe_client(f"http://{at[0]}", model, token), str):
                pass
    return time.monotonic()


def by_hand(arguments: argparse.Namespace, output: OutputDir, model: str) -> float:
    """Seconds from the first submission to both services answering."""
    for old in (output.path / "scripts").glob("*"):
        old.unlink()
    orch(arguments, output, "--dry-run")
    scripts = {s: next((output.path / "scripts").glob(f"*.{s}.sh")) for s in ("ollama", "client")}
    any_moment()
    begin = time.monotonic()
    if arguments.slurm:
        ollama = sbatch(scripts["ollama"])
        jobs = {"ollama": ollama, "client": sbatch(scripts["client"], ollama)}
        processes = []
    else:
        processes = [bash(scripts["ollama"], output, "hand1"),
                     bash(scripts["client"], output, "hand2", "hand1")]  # fmt: skip
        jobs = {"ollama": "hand1", "client": "hand2"}
    deployment = scripts["ollama"].name.removesuffix(".ollama.sh")
    seconds = tight_wait(output, deployment, jobs, model) - begin
    if arguments.slurm:
        subprocess.run(["scancel", *jobs.values()], check=True)
        while subprocess.run(["squeue", "-h", "-u", str(os.getuid())], capture_output=True).stdout:
            time.sleep(0.2)
    for process in processes:
        process.terminate()
        process.wait()
    return seconds


def any_moment() -> None:
    """Slurm starts jobs in a rhythm of about a second, and what we did before follows it: without
    this, one way would always submit just before the beat and the other just after it."""
    time.sleep(random.random())


def sbatch(script: Path, after: str = "") -> str:
    """Submit a script by hand; returns the job's id."""
    extra = [f"--dependency=after:{after}"] if after else []
    command = ["sbatch", "--parsable", *extra, str(script), *([after] if after else [])]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def bash(script: Path, output: OutputDir, job: str, *words: str) -> subprocess.Popen[bytes]:
    """Run a script by hand as a local process with a job id of our choice."""
    (output.path / "logs" / f"{job}.rc").unlink(missing_ok=True)
    log = (output.path / "logs" / f"{job}.out").open("wb")
    return subprocess.Popen(
        ["bash", str(script), *words],
        env={**os.environ, "ORCH_JOB_ID": job},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def orch(arguments: argparse.Namespace, output: OutputDir, *options: str) -> None:
    """Run orch.py to its end, quietly."""
    command = [*ORCH, arguments.recipe, "--site", arguments.site, "--output-dir", str(output.path)]
    subprocess.run([*command, *options], check=True, capture_output=True)


def by_orch(arguments: argparse.Namespace, output: OutputDir, model: str) -> tuple[float, float]:
    """Seconds from the start of orch.py until it says ready, and its delay behind the services."""
    before = {record.id for record in load_records(output.path)}
    answered: list[float] = []

    def observe() -> None:
        record = new_record(output, before)
        answered.append(tight_wait(output, record.id, record.jobs, model))

    observer = threading.Thread(target=observe, daemon=True)
    command = [*ORCH, arguments.recipe, "--no-benchmark", "--site", arguments.site]
    any_moment()
    begin = time.monotonic()
    process = subprocess.Popen(
        [*command, "--output-dir", str(output.path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    if arguments.observe:
        observer.start()
    assert process.stdout is not None
    ready = next(time.monotonic() for line in process.stdout if "all is ready" in line)
    process.stdout.read()
    process.wait()
    if arguments.observe:
        observer.join()
    subprocess.run([*ORCH, "--stop", "all", "--output-dir", str(output.path)], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return ready - begin, ready - answered[0] if answered else float("nan")


def new_record(output: OutputDir, before: set[str]) -> Record:
    """The record of the deployment that appears next, once it has jobs."""
    while True:
        fresh: list[Record] = [r for r in load_records(output.path) if r.id not in before]
        if fresh and fresh[0].jobs.keys() >= {"ollama", "client"}:
            return fresh[0]
        time.sleep(0.005)


def long_wait(arguments: argparse.Namespace, output: OutputDir) -> None:
    """Hold the jobs in the queue and count what orch asks of the scheduler meanwhile."""
    with tempfile.TemporaryDirectory(dir=output.path) as folder:
        calls = Path(folder) / "calls"
        calls.touch()
        for name in ("squeue", "sacct", "scontrol", "sinfo", "sdiag"):
            real = subprocess.run(["which", name], capture_output=True, text=True).stdout.strip()
            shim = Path(folder) / name
            shim.write_text(f'#!/bin/sh\ndate +%s.%N >> {calls}\nexec {real} "$@"\n')
            shim.chmod(0o755)
        site = json.loads((PROJECT / "sites" / f"{arguments.site}.json").read_text())
        site["directives"] = ["--begin=now+1hour"]
        profile = Path(folder) / "held.json"
        profile.write_text(json.dumps(site))
        command = [*ORCH, arguments.recipe, "--site", str(profile), "--output-dir",
                   str(output.path), "--queue-timeout", str(arguments.long_wait)]  # fmt: skip
        begin = time.time()
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        code = subprocess.run(command, env=environment, capture_output=True).returncode
        waited = begin + arguments.long_wait
        moments = [m for m in map(float, calls.read_text().split()) if begin + 0.8 < m < waited]
    minutes = arguments.long_wait / 60
    print(f"long wait: {len(moments)} scheduler calls in {minutes:g} min = "
          f"{len(moments) / minutes:.2f} per minute (exit code {code})")  # fmt: skip


def spread(name: str, values: list[float]) -> None:
    """One line: median, minimum and maximum in seconds."""
    print(f"{name:<28} median {statistics.median(values):.3f} s  "
          f"({min(values):.3f} to {max(values):.3f}, n={len(values)})")  # fmt: skip


def main() -> None:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("recipe")
    p.add_argument("--site", default="local")
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--long-wait", type=float, default=0, metavar="S")
    arguments = p.parse_args()
    arguments.slurm = load_site(arguments.site).scheduler == "slurm"
    recipe = load_recipe(Path(arguments.recipe))
    model = make_plan(recipe, load_site(arguments.site)).model
    # Here rather than in /tmp: compute nodes are to see it.
    with tempfile.TemporaryDirectory(dir=".", prefix="time_to_ready_") as folder:
        output = OutputDir(Path(folder).absolute())
        output.prepare()
        measure(arguments, output, model)


def measure(arguments: argparse.Namespace, output: OutputDir, model: str) -> None:
    """Both ways in turn, and the long wait."""
    arguments.observe = False
    by_hand(arguments, output, model)  # imports the model, fills caches; not counted
    hand, whole, delay = [], [], []
    for _ in range(arguments.runs):
        hand.append(by_hand(arguments, output, model))
        arguments.observe = False
        whole.append(by_orch(arguments, output, model)[0])
        arguments.observe = True
        delay.append(by_orch(arguments, output, model)[1])
    spread("(a) by hand, tight loop", hand)
    spread("(b) orch, from its start", whole)
    ratios = [b / a for a, b in zip(hand, whole, strict=True)]
    print(f"(b)/(a): of the medians {statistics.median(whole) / statistics.median(hand):.3f}, "
          f"pair by pair {min(ratios):.3f} to {max(ratios):.3f}")  # fmt: skip
    spread("orch behind the services", delay)
    if arguments.long_wait and arguments.slurm:
        long_wait(arguments, output)


if __name__ == "__main__":
    main()
