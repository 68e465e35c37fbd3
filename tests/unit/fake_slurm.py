#!/usr/bin/env python3
"""Stand-in for Slurm's commands, called by their names.

$FAKE_SLURM has a file of jobs (id, state, name) for each cluster. The cluster is that of --clusters
or of the script; else the one whose name is $SLURM_CONF's last part, else "default". `calls` gets a
line for each call; `refuse` holds sbatch's refusal.
"""

import json
import os
import re
import sys
from pathlib import Path

TOOL, ARGUMENTS = Path(sys.argv[0]).name, sys.argv[1:]
STATE = Path(os.environ["FAKE_SLURM"])
UNKNOWN = "Invalid job id specified"


def value(option, words):
    found = [word.partition("=")[2] for word in words if word.startswith(f"--{option}=")]
    return found[-1] if found else ""


def asked():
    script = Path(ARGUMENTS[-1])
    lines = script.read_text() if TOOL == "sbatch" else ""
    directive = re.search(r"^#SBATCH --clusters?[= ](\S+)", lines, re.MULTILINE)
    named = value("clusters", ARGUMENTS) or (directive.group(1).strip('"') if directive else "")
    default = Path(os.environ.get("SLURM_CONF", "default")).name
    names = named or (default if (STATE / default).exists() else "default")
    files = sorted(f.name for f in STATE.iterdir() if f.name not in ("bin", "calls", "refuse"))
    return files if names == "all" else names.split(",")


def sbatch():
    refusal = STATE / "refuse"
    if refusal.exists():
        sys.exit(f"sbatch: error: Batch job submission failed: {refusal.read_text()}")
    cluster = asked()[0]
    jobs = json.loads((STATE / cluster).read_text())
    name = re.search(r"--job-name=(\S+)", Path(ARGUMENTS[-1]).read_text()).group(1)
    jobs.append([len(jobs) + 1, "PENDING", name])
    (STATE / cluster).write_text(json.dumps(jobs))
    print(f"{len(jobs)};{cluster}")


def squeue():
    numbers, shown = value("jobs", ARGUMENTS), 0
    print("JOBID|STATE|NODELIST|START_TIME|TIME_LEFT|NAME|REASON")
    for cluster in asked():
        print(f"CLUSTER: {cluster}")
        for number, state, name in json.loads((STATE / cluster).read_text()):
            if not numbers or str(number) in numbers.split(","):
                shown += 1
                print(f"{number}|{state}|n1|N/A|1:00:00|{name}|None")
    if not shown and numbers.isdigit():
        sys.exit(f"slurm_load_jobs error: {UNKNOWN}")


def sacct():
    (cluster,) = asked()
    wanted = value("jobs", ARGUMENTS).split(",")
    for number, state, name in json.loads((STATE / cluster).read_text()):
        if str(number) in wanted:
            print(f"{number}|{state}|n1|{name}")


def scancel():
    (cluster,) = asked()
    jobs = json.loads((STATE / cluster).read_text())
    name = value("name", ARGUMENTS)
    for job in jobs:
        if str(job[0]) in ARGUMENTS and name in ("", job[2]) and job[1] in ("RUNNING", "PENDING"):
            job[1] = "CANCELLED"
    (STATE / cluster).write_text(json.dumps(jobs))


with (STATE / "calls").open("a") as log:
    log.write(" ".join([TOOL, *ARGUMENTS]) + "\n")
{"sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scancel": scancel}.get(TOOL, lambda: None)()
