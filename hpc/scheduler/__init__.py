"""One small interface, two implementations: Slurm and local processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpc.jobstates import JobStatus
from hpc.plan import Partition
from hpc.site import Site


@dataclass(frozen=True)
class Submission:
    """A rendered script, ready to be submitted.

    `stdout` and `stderr` hold `%j` for the job's id; `time_seconds` is the job's time limit.
    """

    name: str
    service: str
    script: Path
    stdout: str
    stderr: str
    time_seconds: int


class Scheduler(Protocol):
    """What runs jobs. Every method may raise SchedulerError (exit code 3)."""

    def partitions(self) -> Sequence[Partition]:
        """What there is; nothing where there are no partitions."""

    def submit(self, job: Submission) -> str:
        """Submit and return the job's id. Nothing has been submitted where it raises, but for
        SchedulerUnavailable: then the job may have been taken, to be found by its name."""

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """The status of each job, in one call; jobs that are not known any more are left out.

        Raises SchedulerUnavailable where the scheduler does not answer.
        """

    def mine(self, name: str = "") -> dict[str, JobStatus]:
        """This user's jobs (of that name) that are known, by id; each has its name.

        Raises SchedulerUnavailable where the scheduler does not answer.
        """

    def cancelled_by(self, job_id: str) -> str:
        """Who cancelled the job ("user NAME", "uid N"), "" where that is not known."""

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Ask for the end of the jobs. Those that are over already do not matter."""

    def close(self) -> None:
        """End a question that is under way: its answer is of no more use."""


def open_scheduler(site: Site, output: Path) -> Scheduler:
    """The scheduler of `site`. Raises SchedulerError where it is not to be had here."""
    if site.scheduler == "local":
        from hpc.scheduler.local import LocalScheduler

        return LocalScheduler(output)
    from hpc.scheduler.slurm import SlurmScheduler

    return SlurmScheduler()
