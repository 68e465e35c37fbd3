"""Whether a deployment's jobs have been seen to end.

That a scheduler does not know a job is no proof: it may be another one's, or its controller has
lost its memory. Then the job's own files tell, what was seen earlier, or its time limit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from contracts.jobs.ids import number_of
from contracts.jobs.states import GONE, JobStatus
from hpc.deployments.records import Record
from hpc.endpoints import OutputDir
from hpc.scheduler.registry import kind_of

#: Slurm ends a job at its limit, give or take its own slack (OverTimeLimit, KillWait).
LIMIT_SLACK_S = 3600.0


class Ends:
    """What is known of the ends of one deployment's jobs."""

    def __init__(self, record: Record, output: OutputDir) -> None:
        self._record = record
        self._output = output
        #: Jobs that the scheduler knew: when it has forgotten one since, that has ended.
        self._known: set[str] = set()

    def words(self, service: str, status: JobStatus) -> str | None:
        """How the job of a service ended, in a few words; None when nobody has seen that it did.

        When the scheduler knows the job, it alone says whether that is over.
        """
        job_id = self._record.jobs[service]
        if status is not GONE:
            self._known.add(job_id)
            return self._by_its_file(job_id) or status.state if status.over else None
        forgotten = "forgotten by the scheduler" if job_id in self._known else None
        return (
            self._by_its_file(job_id) or forgotten or self._seen_before(service)
            or self._by_its_limit(job_id)
        )  # fmt: skip

    def _by_its_file(self, job_id: str) -> str | None:
        exit_status = self._output.exit_status(job_id)
        return f"ended: {exit_status.reason}" if exit_status else None

    def _seen_before(self, service: str) -> str | None:
        before = str(self._record.job_states.get(service, ""))
        return before if before.startswith("ended: ") or JobStatus(before).over else None

    def _by_its_limit(self, job_id: str) -> str | None:
        started_at = self._output.started_at(job_id)
        if (
            started_at is None
            or time.time() < started_at / 1e9 + self._record.limit_s + LIMIT_SLACK_S
        ):
            return None
        return "ended: its time limit has passed"

    def split(self, statuses: Mapping[str, JobStatus]) -> tuple[list[str], list[str]]:
        """The services whose jobs have not been seen to end: those that the scheduler knows, and
        those that it does not."""
        known: list[str] = []
        unknown: list[str] = []
        for service, job_id in self._record.jobs.items():
            status = statuses.get(job_id, GONE)
            if self.words(service, status) is None:
                (unknown if status is GONE else known).append(service)
        return known, unknown

    def without_answer(self) -> list[str]:
        """The services whose jobs have left no word of their end, while the scheduler is silent."""
        return [s for s, job_id in self._record.jobs.items() if self._by_its_file(job_id) is None]

    def not_known(self, services: list[str]) -> str:
        """A sentence on jobs that the scheduler does not know and nobody has seen end."""
        jobs = self._record.jobs
        named = ", ".join(f"{service} job {jobs[service]}" for service in services)
        hosts = dict.fromkeys(filter(None, (self._output.host(jobs[s]) for s in services)))
        where = f" on {', '.join(hosts)}" if hosts else ""
        elsewhere = kind_of(self._record.scheduler).elsewhere
        return (
            f"{named} of {self._record.id}: not known to the scheduler, and nobody has seen an "
            f"end, so that it may still run{where}; stop it on the cluster that took it "
            f"({elsewhere}), or, once you know that it has ended, remove {self._record.path}."
        )

    def forget(self, services: list[str]) -> None:
        """Remove the address and target files of those services' jobs."""
        for service in services:
            self._output.forget(number_of(self._record.jobs[service]))
