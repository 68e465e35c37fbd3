"""The one loop that waits for everything which is outstanding, at once.

Files and services are asked often, since that costs next to nothing; the scheduler seldom, with
one call for all jobs. What happens is told by the jobs' own files first: a script writes `.started`
when it begins, its address when it serves, and `.rc` when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from contracts.errors import EXIT_STOPPED, DeadlineError, OrchError, SchedulerError, ServiceError
from contracts.job_files import ExitStatus
from contracts.jobs.states import GONE, JobStatus, Outlook, Verdict
from hpc.endpoints import OutputDir
from hpc.following.polling import END_PATIENCE_S, Poller
from hpc.following.probing import STARTING_TICK_S, Prober
from hpc.following.target import Target
from hpc.scheduler.interface import Scheduler

#: While all that we wait for is in the queue; a second look per quarter second is still prompt.
QUEUED_TICK_S = 0.25
#: A script that was told to end was cancelled or requeued: the next state alone says which, and a
#: job may be COMPLETING until then (KillWait is 30 s by default).
TOLD_TO_END = (EXIT_STOPPED, 143)
COMPLETING_PATIENCE_S = 35.0
#: How long what is not required may take to start once all the rest is ready.
OPTIONAL_PATIENCE_S = 15.0
#: An expected start that moves by less is not worth a line.
START_CHANGE_S = 600.0


class Waiter:
    """Waits until all targets are ready.

    `queue_timeout_s` counts from now until all scripts have begun; `start_timeout_s` from then
    on. `tell` is called with a line for each thing worth telling.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        scheduler: Scheduler,
        output: OutputDir,
        tell: Callable[[str, str], None],
        *,
        queue_timeout_s: float,
        start_timeout_s: float,
    ) -> None:
        self.targets = targets
        self._probers: dict[str, Prober] = {}
        self._scheduler = scheduler
        self._poller = Poller(scheduler, [target.job_id for target in targets])
        self._output = output
        self._tell = tell
        self._queue_timeout_s = queue_timeout_s
        self._start_timeout_s = start_timeout_s
        self._begin = self._queued_since = time.monotonic()
        self._all_started: float | None = None
        self._all_ready: float | None = None
        self._statuses: dict[str, JobStatus] = {}
        self._unavailable = False

    def wait(self) -> None:
        """Return once every target is ready.

        Raises ServiceError if a job ends first or a service says it cannot, SchedulerError
        if a job can never start, DeadlineError if a deadline passes.
        """
        while not self._done():
            self._look_at_files()
            self._probe()
            self._poll_scheduler()
            self._check_deadlines()
            queued = not any(t.started and not t.ready for t in self._live())
            time.sleep(QUEUED_TICK_S if queued and self._patient() else STARTING_TICK_S / 5)

    def _live(self) -> list[Target]:
        return [target for target in self.targets if not target.lost]

    def _required(self) -> list[Target]:
        return [target for target in self.targets if target.required]

    def _done(self) -> bool:
        """All that is required is ready; what is not has had its time."""
        if not all(target.ready for target in self._required()):
            self._all_ready = None
            return False
        self._all_ready = self._all_ready or time.monotonic()
        patient = time.monotonic() - self._all_ready < OPTIONAL_PATIENCE_S
        return not any(patient and t.started and not t.ready for t in self._live())

    def _patient(self) -> bool:
        """Short queues are common: in the first seconds a look costs us little."""
        return time.monotonic() - self._begin > 10

    # --- files ---

    def _look_at_files(self) -> None:
        for target in self._live():
            exit_status = self._output.exit_status(target.job_id)
            if exit_status is not None:
                self._judge_end(target, exit_status)
                if target.lost:
                    continue
            started_at = self._output.started_at(target.job_id)
            if target.started and started_at not in (None, target.started_at):
                self._requeued(target, None)
            if started_at is not None and not target.started:
                self._set_started(target, started_at)
            if target.started and not target.ready:
                self._look_for_address(target)

    def _set_started(self, target: Target, started_at: int) -> None:
        target.started_at, target.seen_at = started_at, time.monotonic()
        target.detail = "its job has begun"
        self._tell(target.service, f"job {target.job_id} has begun")
        if self._all_started is None and all(t.started for t in self._required()):
            self._all_started = time.monotonic()

    def _look_for_address(self, target: Target) -> None:
        service = target.published_as or target.service
        found = self._output.addresses(service, target.job_id)
        if found and found != target.addresses:
            target.addresses = found
            target.detail = "serves; waiting for its answers"
            self._hurry()
            self._probers[target.job_id] = Prober(target)
            self._tell(target.service, f"serves at {', '.join(target.addresses)}")

    def _judge_end(self, target: Target, exit_status: ExitStatus) -> None:
        """The script has ended: the job is over, unless it was requeued."""
        status = self._poller.settled(target.job_id, completing_patience_s(exit_status))
        if status is not None and status.in_queue:
            self._requeued(target, status)
        elif self._output.exit_status(target.job_id) == exit_status:
            state = status.state if status is not None and status.over else ""
            what = f"ended with exit code {exit_status.exit_code}"
            if status is not None and state not in ("", "FAILED", "COMPLETED"):
                what = f"{status.words} (exit code {exit_status.exit_code})"  # Slurm knows more
            self._fail(target, what, exit_status.reason, state)

    def _requeued(self, target: Target, status: JobStatus | None) -> None:
        """The job goes on under its id, from the queue: wait for it anew.

        `status` is its place in the queue, None if it has left that already.
        """
        self._output.forget_run(target.job_id, target.started_at)
        target.back_to_queue()
        self._probers.pop(target.job_id, None)
        self._all_started, self._queued_since = None, time.monotonic()
        target.detail = "was requeued"
        self._tell(
            target.service,
            f"job {target.job_id} was requeued (it was preempted, its node failed, or somebody "
            "did it): waiting for it again",
        )
        for other in self.targets:
            other.ready = False  # it may have relied on this one
        if status is not None:
            self._statuses[target.job_id] = status
            self._say_why_it_waits(target, status, None)

    # --- services ---

    def _probe(self) -> None:
        asked = [prober for prober in self._probers.values() if not prober.target.ready]
        for prober in asked:
            prober.begin()
        for prober in asked:
            prober.collect()
            if prober.target.ready:
                prober.target.detail = "ready"
                self._tell(prober.target.service, "is ready")
                self._hurry()

    def _hurry(self) -> None:
        for prober in self._probers.values():
            prober.hurry()

    # --- scheduler ---

    def _poll_scheduler(self) -> None:
        if not self._poller.step():
            return
        error = self._poller.error
        if error is not None:
            if not self._unavailable:
                self._tell("orch", f"{error.message}; the wait goes on")
            self._unavailable = True
            return
        if self._unavailable:
            self._tell("orch", "the scheduler answers again")
        self._unavailable = False
        for target in self._live():
            self._judge(target, self._poller.status(target.job_id))

    def _judge(self, target: Target, status: JobStatus) -> None:
        before = self._statuses.get(target.job_id)
        self._statuses[target.job_id] = status
        if self._output.exit_status(target.job_id) is not None:
            return  # the next look at the files judges it, with the reason
        if status.over:
            self._fail(target, *self._how_it_ended(target, status), status.state)
        elif status is GONE and before is GONE:
            why = "nothing says how it ended, or whether it did"
            self._fail(target, "is not known to the scheduler any more", why, "GONE")
        elif status.in_queue and target.started:
            # An answer to a question from before its begin is merely old.
            if self._poller.asked_at > target.seen_at:
                self._requeued(target, status)
        elif status.verdict is Verdict.WAITING:
            self._say_why_it_waits(target, status, before)

    def _how_it_ended(self, target: Target, status: JobStatus) -> tuple[str, str]:
        if status.state != "CANCELLED":
            return status.words, status.reason
        by = self._scheduler.cancelled_by(target.job_id)
        return (f"{status.words} by {by}" if by else status.words), ""

    def _say_why_it_waits(
        self, target: Target, status: JobStatus, before: JobStatus | None
    ) -> None:
        reason = self._scheduler.explain(status.reason, target.job_id)
        if status.in_queue and reason.outlook is Outlook.NEVER:
            self._give_up_on(
                target,
                SchedulerError(
                    f"{self._scheduler.title} will never start the {target.service} job "
                    f"{target.job_id}: {reason.words} ({status.reason}); {reason.remedy}."
                ),
            )
            return
        why = [reason.words, f"({status.reason})"] if status.reason else []
        if reason.remedy:
            why.append(f"[{reason.remedy}]")
        what = ": ".join(filter(None, [status.words, " ".join(why)]))
        start = _clock(status.start)
        target.detail = f"{what}; expected to start {start}" if start else what
        same = before is not None and (before.state, before.reason) == (status.state, status.reason)
        if not same or self._start_is_news(target, status.start):
            target.expected = status.start
            self._tell(target.service, f"job {target.job_id} {target.detail}")

    def _start_is_news(self, target: Target, start: float | None) -> bool:
        if start is None or not _clock(start):
            return False
        return target.expected is None or abs(start - target.expected) >= START_CHANGE_S

    def _fail(self, target: Target, what: str, why: str, state: str) -> None:
        state = f" [{state}]" if state else ""
        because = f": {why}" if why else ""
        tail = self._output.log_tail(target.service, target.job_id)
        words = f"the {target.service} job {target.job_id}{state} {what}{because}"
        self._give_up_on(target, ServiceError(words, tail))

    def _give_up_on(self, target: Target, error: OrchError) -> None:
        if target.required:
            raise error
        target.lost, target.ready, target.detail = True, False, error.message
        self._tell("WARNING", f"{error.message.rstrip('.')}; the rest goes on without it")

    # --- deadlines ---

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        late = [t for t in self._required() if not t.ready]
        if self._all_started is None:
            if now - self._queued_since > self._queue_timeout_s:
                self._give_up([t for t in late if not t.started], "in the queue", "--queue-timeout")
        elif now - self._all_started > self._start_timeout_s:
            self._give_up(late, "starting", "--start-timeout")

    def _give_up(self, late: Sequence[Target], doing: str, option: str) -> None:
        seconds = self._queue_timeout_s if doing == "in the queue" else self._start_timeout_s
        states = "; ".join(f"{t.service} job {t.job_id}: {t.detail}" for t in late)
        raise DeadlineError(
            f"still {doing} after {seconds:g} s ({states}); allow more with {option}."
        )


def completing_patience_s(exit_status: ExitStatus) -> float:
    """How long a job whose script has ended may be COMPLETING before we go by the script alone."""
    return COMPLETING_PATIENCE_S if exit_status.exit_code in TOLD_TO_END else END_PATIENCE_S


def _clock(start: float | None) -> str:
    """ "at 14:05", with the date if that is another day; "" for what is past or not known."""
    if start is None or start <= time.time():
        return ""
    moment, now = time.localtime(start), time.localtime()
    return time.strftime("at %H:%M" if moment[:3] == now[:3] else "on %Y-%m-%d at %H:%M", moment)
