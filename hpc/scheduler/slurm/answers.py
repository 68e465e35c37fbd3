"""What Slurm's commands print, read: whatever a site's wrappers and greetings put around it."""

from __future__ import annotations

import math
import pwd
import re
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.jobs.ids import join, number_of
from contracts.jobs.states import JobStatus, moment
from hpc.scheduler.interface import Partition
from hpc.times import parse_time

#: Of each job: id, state, nodes, begin (expected, while it waits), time left, name, reason.
SQUEUE_FORMAT = "--format=%A|%T|%N|%S|%L|%j|%r"
#: How squeue itself heads that, by which we know that it answered, even with no jobs at all.
_SQUEUE_HEADER = "JOBID|STATE|"
SACCT_FORMAT = "--format=JobIDRaw,State,NodeList,JobName"
#: sbatch's answer, also that of a wrapper which drops --parsable.
_SUBMITTED = re.compile(r"(?:Submitted batch job )?(\d+)(?:(?:;| on cluster )([\w.-]+))?")
#: What squeue and sinfo print above the lines of each cluster.
_CLUSTER = re.compile(r"CLUSTER: *(\S+)")


def parse_sbatch(text: str) -> str | None:
    """The job's id; None if no line, or more than one, can be it."""
    found = {join(*match.groups("")) for line in text.splitlines()
             if (match := _SUBMITTED.fullmatch(line.strip()))}  # fmt: skip
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Listing:
    """squeue's answer: jobs by id, lines that are no job, and whether its own header was there."""

    jobs: dict[str, JobStatus]
    other: list[str]
    headed: bool = False

    def is_an_answer_about(self, job_ids: Sequence[str]) -> bool:
        """Whether a job that is not in it is not known: a greeting may stand around the list, but
        no line of a wanted job is torn, and something in it is squeue's own."""
        if not self.other or (job_ids and set(job_ids) <= self.jobs.keys()):
            return True
        numbers = tuple(f"{number_of(job_id)}|" for job_id in job_ids)
        torn = bool(numbers) and any(line.startswith(numbers) for line in self.other)
        return bool(self.headed or self.jobs) and not torn


def parse_squeue(text: str, cluster: str = "") -> Listing:
    """Jobs from squeue's lines (in `SQUEUE_FORMAT`); `cluster` is the one that was asked, "all"
    if the lines say of which each is."""
    jobs: dict[str, JobStatus] = {}
    other, headed, of = [], False, "" if cluster == "all" else cluster
    for line in filter(None, map(str.strip, text.splitlines())):
        fields = line.split("|", 6)
        if headline := _CLUSTER.fullmatch(line):
            of = headline.group(1) if cluster == "all" else of
        elif line.startswith(_SQUEUE_HEADER):
            headed = True
        elif len(fields) < 7 or not fields[0].isdigit() or not fields[1].isidentifier():
            other.append(line)
        else:
            jobs[join(fields[0], of)] = _job(*fields[1:])
    return Listing(jobs, other, headed)


def _job(state: str, nodes: str, start: str, left: str, name: str, reason: str) -> JobStatus:
    return JobStatus(
        state,
        "" if reason in ("None", "(null)") else reason,
        "" if nodes == "(null)" else nodes,
        moment(start),
        _whole_seconds(left),
        name,
    )


def parse_sacct(text: str, cluster: str = "") -> dict[str, JobStatus]:
    """Jobs from sacct's lines (in `SACCT_FORMAT`); lines of another kind are passed over.

    "CANCELLED by 1001" becomes the state CANCELLED for the reason "by " and the user's name.
    """
    jobs = {}
    for line in text.splitlines():
        fields = line.strip().split("|", 3)
        if len(fields) >= 3 and fields[0].isdigit() and fields[1]:
            state, _, by = fields[1].partition(" by ")
            nodes = "" if fields[2] == "None assigned" else fields[2]
            reason = f"by {_user_name(by)}" if by else ""
            jobs[join(fields[0], cluster)] = JobStatus(
                state.split()[0].rstrip("+"), reason, nodes, name="".join(fields[3:])
            )
    return jobs


def _user_name(uid: str) -> str:
    try:
        return f"user {pwd.getpwuid(int(uid)).pw_name}"
    except (KeyError, ValueError, OverflowError):
        return f"uid {uid}"


def _whole_seconds(text: str) -> int | None:
    try:
        return parse_time(text)
    except ValueError:  # "UNLIMITED", "NOT_SET", "INVALID", "0:00"
        return None


def parse_sinfo(text: str) -> list[Partition]:
    """Partitions from sinfo's lines `name|up or down|time limit|cpus|gres`, in its order.

    A partition has a line for each kind of node in it; one that is not up is left out.
    """
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        fields = line.strip().split("|", 4)
        if len(fields) == 5 and fields[1] == "up":
            part = _partition(*fields)
            found[part.name] = _joined(found[part.name], part) if part.name in found else part
    return list(found.values())


def _partition(name: str, _up: str, limit: str, cpus: str, gres: str) -> Partition:
    has_gpus = any(entry.startswith("gpu") for entry in gres.split(","))
    digits = cpus.rstrip("+")
    return Partition(
        name=name.rstrip("*"),
        default=name.endswith("*"),
        has_gpus=has_gpus,
        has_nodes_without_gpus=not has_gpus,
        cpus_per_node=int(digits) if digits.isdigit() else None,
        max_seconds=_seconds(limit),
    )


def _joined(a: Partition, b: Partition) -> Partition:
    cpus = [value for value in (a.cpus_per_node, b.cpus_per_node) if value is not None]
    return Partition(
        name=a.name,
        default=a.default,
        has_gpus=a.has_gpus or b.has_gpus,
        has_nodes_without_gpus=a.has_nodes_without_gpus or b.has_nodes_without_gpus,
        cpus_per_node=min(cpus) if cpus else None,
        max_seconds=a.max_seconds,
    )


def _seconds(limit: str) -> float:
    try:
        return parse_time(limit)
    except ValueError:  # "infinite", "n/a", or more than a year
        return math.inf
