"""Asks the scheduler about a deployment's jobs: seldom, in the background, one call at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from contracts.errors import SchedulerUnavailable
from contracts.jobs.states import GONE, JobStatus
from hpc.following.background import Background
from hpc.scheduler.interface import Scheduler

#: By then Slurm has looked at a new job, as a rule, and knows why it does not start.
FIRST_POLL_S = 1.0
#: One more look if it had not.
EARLY_POLL_S = 4.0
#: Twice a minute, whatever the number of jobs: what a shared controller does not notice.
POLL_INTERVAL_S = 30.0
#: How long a question's first step waits for its answer: squeue takes some 10 ms, but without a
#: controller up to 18 s, which hold up nobody.
STEP_S = 0.05
#: How long the scheduler gets to learn of an end that we know of.
END_PATIENCE_S = 5.0
#: Between two looks at a job that has just ended; the scheduler is behind by a moment.
SETTLE_PAUSE_S = 0.25


class Poller:
    """The statuses of some jobs, as the scheduler last gave them.

    `error` is set as long as it does not answer; `asked_at` is the time.monotonic() at which the
    last question that was answered was put: what happened later is not in the statuses.
    """

    def __init__(self, scheduler: Scheduler, job_ids: Iterable[str]) -> None:
        wanted = list(job_ids)
        self._call = Background(lambda: scheduler.statuses(wanted))
        self._next = time.monotonic() + FIRST_POLL_S
        self._put_at = -math.inf
        self._early = True
        self._statuses: dict[str, JobStatus] = {}
        self.asked_at = -math.inf
        self.error: SchedulerUnavailable | None = None

    def status(self, job_id: str) -> JobStatus:
        """The last known status of a job; GONE if the scheduler did not know it."""
        return self._statuses.get(job_id, GONE)

    def step(self) -> bool:
        """Ask if that is due. True if an answer, or the lack of one, has just been taken."""
        patience_s = 0.0
        if not self._call.started:
            if time.monotonic() < self._next:
                return False
            patience_s = STEP_S
            self._put_at = time.monotonic()
            self._next = self._put_at + POLL_INTERVAL_S
            self._call.start()
        if not self._call.finished(patience_s):
            return False
        try:
            self._statuses, self.error = self._call.take(), None
        except SchedulerUnavailable as error:
            self.error = error
            return True
        self.asked_at = self._put_at
        self._look_again_early()
        return True

    def _look_again_early(self) -> None:
        """Once: jobs that Slurm had not looked at itself have no reason yet."""
        unread = any(s.state == "PENDING" and not s.reason for s in self._statuses.values())
        if self._early and unread:
            self._next = self._put_at + EARLY_POLL_S
        self._early = False

    def settled(self, job_id: str, completing_s: float = END_PATIENCE_S) -> JobStatus | None:
        """What became of a job that seems to have ended: over, in the queue again, or GONE.

        None if the scheduler does not answer, says for `END_PATIENCE_S` that the job runs, or
        for `completing_s` that it completes.
        """
        since, pause, patience_s = time.monotonic(), SETTLE_PAUSE_S, END_PATIENCE_S
        while time.monotonic() - since < patience_s:
            self._next = -math.inf
            if self.step() and self._put_at >= since:
                status = self.status(job_id)
                if self.error or status.over or status.in_queue or status is GONE:
                    return None if self.error else status
                patience_s = completing_s if status.state == "COMPLETING" else END_PATIENCE_S
            time.sleep(pause)
            pause = min(pause * 1.2, 3.0)
        return None
