"""Whether the jobs that a run needs are still there, and what to say when one is not."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import BenchmarkInvalid, ServiceError
from contracts.job_files import ExitStatus
from contracts.jobs.states import JobStatus
from hpc.endpoints import OutputDir
from hpc.following.polling import Poller
from hpc.following.waiting import COMPLETING_PATIENCE_S, TOLD_TO_END, completing_patience_s
from hpc.scheduler.interface import Scheduler


class JobEnded(ServiceError):
    """A job of the deployment ended, or was requeued, while it was needed."""


class MeasuredDied(JobEnded):
    """What is measured ended by itself: what its clients met is the result, which is not valid."""

    exit_code = BenchmarkInvalid.exit_code


class JobWatch:
    """Watches `needed` jobs (ids by service); `measured` is the service that a benchmark is of."""

    def __init__(
        self, needed: Mapping[str, str], measured: str, scheduler: Scheduler, output: OutputDir
    ) -> None:
        self._needed = needed
        self._measured = measured
        self._scheduler = scheduler
        self._output = output
        self._poller = Poller(scheduler, needed.values())

    def check(self) -> None:
        """Raise JobEnded when a job has ended or was requeued: by its own file, at times by the
        scheduler."""
        asked = self._poller.step() and self._poller.error is None
        for service, job_id in self._needed.items():
            exit_status = self._output.exit_status(job_id)
            status = self._poller.status(job_id)
            if exit_status is not None:
                settled = self._poller.settled(job_id, completing_patience_s(exit_status))
                self._fail(service, job_id, settled or status)
            elif asked and (status.over or status.in_queue):
                self._fail(service, job_id, status)

    def blame(self) -> None:
        """The run has failed. Raise JobEnded when the cause is a job that is no more."""
        for service, job_id in self._needed.items():
            status = self._poller.settled(job_id, COMPLETING_PATIENCE_S)
            if status is not None and (status.over or status.in_queue):
                self._fail(service, job_id, status)

    def _fail(self, service: str, job_id: str, status: JobStatus) -> None:
        if status.in_queue:
            raise JobEnded(
                f"the {service} job {job_id} was requeued during the run (now {status.state}): it "
                "was preempted, its node failed, or somebody did it; deploy again."
            )
        exit_status = self._output.exit_status(job_id)
        by = self._scheduler.cancelled_by(job_id) if status.state == "CANCELLED" else ""
        # Slurm knows more of the other states than the script does.
        own = exit_status.reason if exit_status and _plain(status) else ""
        why = f"was cancelled by {by}" if by else own or status.words
        state = f" [{status.state}]" if status.over else ""
        raise (
            MeasuredDied if service == self._measured and _died(exit_status, status) else JobEnded
        )(
            f"the {service} job {job_id}{state} ended during the run: {why}.",
            self._output.log_tail(service, job_id),
        )


def _plain(status: JobStatus) -> bool:
    """Whether Slurm says no more of the job's end than that it came."""
    return not status.over or status.state in ("FAILED", "COMPLETED", "CANCELLED")


def _died(exit_status: ExitStatus | None, status: JobStatus) -> bool:
    """Whether a job's service ended by itself, rather than by anybody's or Slurm's will."""
    told = exit_status is None or exit_status.exit_code in (0, *TOLD_TO_END)
    return not told and _plain(status) and status.state != "CANCELLED"
