"""What runs jobs: what each scheduler is asked, and what it says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from contracts.jobs.states import JobStatus, Reason


@dataclass(frozen=True)
class Setting:
    """A value of the plan and who decided it, for --dry-run."""

    name: str
    value: object
    source: str


@dataclass(frozen=True)
class Exported:
    """What the user's environment asks of a scheduler, by option, each value with its variable; and
    the variables that are left out."""

    chosen: Mapping[str, Setting] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Partition:
    """What the scheduler says of one partition."""

    name: str
    default: bool = False
    has_gpus: bool = False
    has_nodes_without_gpus: bool = False
    cpus_per_node: int | None = None
    max_seconds: float = math.inf


NOTHING_EXPORTED = Exported()


@dataclass(frozen=True)
class Submission:
    """A rendered script, ready to be submitted.

    `stdout` and `stderr` hold `%j` for the job's id; `time_seconds` is the job's time limit;
    `cluster` is the one that the jobs before it were taken by, "" if none was named.
    """

    name: str
    service: str
    script: Path
    stdout: str
    stderr: str
    time_seconds: int
    cluster: str = ""


@dataclass(frozen=True)
class Known:
    """What a scheduler is told of earlier submissions: names of jobs by their ids, the clusters
    that they were given to, and the settings by which their controller is reached."""

    names: Mapping[str, str]
    clusters: str
    controller: Mapping[str, str] | None


class Scheduler(Protocol):
    """What runs jobs. Every method may raise SchedulerError (exit code 3)."""

    #: What sentences call it.
    title: str

    def partitions(self) -> Sequence[Partition]:
        """What there is; nothing if there are no partitions."""

    def submit(self, job: Submission) -> str:
        """Submit and return the job's id, of letters and digits (contracts/jobs/ids.py).

        Nothing has been submitted if it raises, but for SchedulerUnavailable: then the job may
        have been taken, to be found by its name.
        """

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """The status of each job, in one call for each cluster.

        Jobs that are not known are left out: none of them is thereby seen to have ended, for their
        controller may be another one, or have lost its memory. Raises SchedulerUnavailable if
        the scheduler does not answer.
        """

    def mine(self, name: str = "") -> dict[str, JobStatus]:
        """This user's jobs (of that name) that are known, by id; each has its name.

        Raises SchedulerUnavailable if the scheduler does not answer.
        """

    def explain(self, reason: str, job_id: str) -> Reason:
        """What the `reason` of a job's status means for the job, which waits."""

    def cancelled_by(self, job_id: str) -> str:
        """Who cancelled the job ("user NAME", "uid N"), "" if that is not known."""

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Ask for the end of the jobs. Those that are over already, or not known, do not matter; a
        job of another name that has the id of one is left alone."""

    def close(self) -> None:
        """End a question that is under way: its answer is of no more use."""
