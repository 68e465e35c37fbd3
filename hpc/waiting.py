"""The one loop that waits for everything which is outstanding, at once.

Files and services are asked often, since that costs next to nothing; the scheduler seldom, with
one call for all jobs. What happens is told by the jobs' own files first: a script writes `.started`
when it begins, its address when it serves, and `.rc` when it ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc.endpoints import OutputDir
from hpc.errors import DeadlineError, OrchError, SchedulerUnavailable, ServiceError
from hpc.jobstates import GONE, JobStatus, Verdict
from hpc.scheduler import Scheduler

#: While a script that has begun is starting its service.
STARTING_TICK_S = 0.05
#: While all that we wait for is in the queue; a second look per quarter second is still prompt.
QUEUED_TICK_S = 0.25
FIRST_POLL_S = 1.0
#: Twice a minute, whatever the number of jobs: what a shared controller does not notice.
POLL_INTERVAL_S = 30.0
#: How long the scheduler gets to learn of an end that we know of: one second.
FINAL_STATE_TRIES = 4
FINAL_STATE_PAUSE_S = 0.25
#: Between two questions to a service that is not ready.
PROBE_PAUSE_S = 0.1


@dataclass
class Target:
    """A service that is waited for.

    `probe(addresses)` returns anything but a str once the service is ready, and else a sentence
    saying why it is not; it may raise ServiceError, which ends the wait.
    """

    service: str
    job_id: str
    probe: Callable[[list[str]], Any]
    started: bool = False
    addresses: list[str] = field(default_factory=list)
    result: Any = None
    ready: bool = False
    detail: str = "submitted"


class Prober:
    """Runs a probe in a thread, so that a service that hangs does not hold up the loop."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._outcome: Any = None
        self._thread: threading.Thread | None = None
        self._next = 0.0

    def step(self) -> None:
        """Collect a finished probe's result, and start the next one where one is due."""
        if self._thread is None:
            if time.monotonic() < self._next:
                return
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._thread.join(STARTING_TICK_S)
        if self._thread.is_alive():
            return
        self._thread = None
        self._next = time.monotonic() + PROBE_PAUSE_S
        if isinstance(self._outcome, OrchError):
            raise self._outcome
        if isinstance(self._outcome, str):
            self.target.detail = self._outcome
        else:
            self.target.result, self.target.ready = self._outcome, True

    def _run(self) -> None:
        try:
            self._outcome = self.target.probe(self.target.addresses)
        except OrchError as error:
            self._outcome = error


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
        self._probers = [Prober(target) for target in targets]
        self._scheduler = scheduler
        self._output = output
        self._tell = tell
        self._queue_timeout_s = queue_timeout_s
        self._start_timeout_s = start_timeout_s
        self._begin = time.monotonic()
        self._all_started: float | None = None
        self._next_poll = self._begin + FIRST_POLL_S
        self._statuses: dict[str, JobStatus] = {}
        self._unavailable = False

    def wait(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Return once every target is ready.

        Raises ServiceError where a job ends first or a service says it cannot, DeadlineError
        where a deadline passes.
        """
        while not all(target.ready for target in self.targets):
            self._look_at_files()
            self._probe()
            self._poll_scheduler()
            self._check_deadlines()
            on_tick()
            queued = not any(t.started and not t.ready for t in self.targets)
            time.sleep(QUEUED_TICK_S if queued and self._patient() else STARTING_TICK_S / 5)

    def _patient(self) -> bool:
        """Short queues are common: in the first seconds a look costs us little."""
        return time.monotonic() - self._begin > 10

    # --- files ---

    def _look_at_files(self) -> None:
        for target in self.targets:
            ended = self._output.ended(target.job_id)
            if ended is not None:
                self._fail(target, f"ended with exit code {ended.exit_code}", ended.reason)
            if not target.started and self._output.started(target.job_id):
                self._set_started(target)
            if target.started and not target.addresses:
                self._look_for_address(target)

    def _set_started(self, target: Target) -> None:
        target.started = True
        target.detail = "its job has begun"
        self._tell(target.service, f"job {target.job_id} has begun")
        if self._all_started is None and all(t.started for t in self.targets):
            self._all_started = time.monotonic()

    def _look_for_address(self, target: Target) -> None:
        target.addresses = self._output.addresses(target.service, target.job_id)
        if target.addresses:
            target.detail = "serves; waiting for its answers"
            self._tell(target.service, f"serves at {', '.join(target.addresses)}")

    # --- services ---

    def _probe(self) -> None:
        for prober in self._probers:
            target = prober.target
            if target.addresses and not target.ready:
                prober.step()
                if target.ready:
                    target.detail = "ready"
                    self._tell(target.service, "is ready")

    # --- scheduler ---

    def _poll_scheduler(self) -> None:
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_INTERVAL_S
        try:
            found = self._scheduler.statuses([t.job_id for t in self.targets])
        except SchedulerUnavailable as error:
            if not self._unavailable:
                self._tell("orch", f"{error.message}; the wait goes on")
            self._unavailable = True
            return
        if self._unavailable:
            self._tell("orch", "the scheduler answers again")
        self._unavailable = False
        for target in self.targets:
            self._judge(target, found.get(target.job_id, GONE))

    def _judge(self, target: Target, status: JobStatus) -> None:
        before = self._statuses.get(target.job_id)
        self._statuses[target.job_id] = status
        if status.over and self._output.ended(target.job_id) is None:
            self._fail(target, status.words, status.reason, status.state)
        if status is GONE and before is GONE and self._output.ended(target.job_id) is None:
            self._fail(target, "is not known to the scheduler any more", "", "GONE")
        if not target.started and status != before and status.verdict is Verdict.WAITING:
            reason = f" ({status.reason})" if status.reason else ""
            target.detail = f"{status.words}{reason}"
            self._tell(target.service, f"job {target.job_id} {target.detail}")

    def _fail(self, target: Target, what: str, why: str, state: str = "") -> None:
        state = f" [{state}]" if state else self._final_state(target.job_id)
        because = f": {why}" if why else ""
        raise ServiceError(
            f"the {target.service} job {target.job_id}{state} {what}{because}",
            self._output.log_tail(target.service, target.job_id),
        )

    def _final_state(self, job_id: str) -> str:
        """The state in the scheduler's words, for a job whose own file says that it ended.

        The scheduler is behind by a moment (COMPLETING); where it stays so, or does not answer,
        the exit code has to do.
        """
        for _ in range(FINAL_STATE_TRIES):
            try:
                status = self._scheduler.statuses([job_id]).get(job_id, GONE)
            except SchedulerUnavailable:
                return ""
            if status.over:
                return f" [{status.state}]"
            time.sleep(FINAL_STATE_PAUSE_S)
        return ""

    # --- deadlines ---

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        late = [t for t in self.targets if not t.ready]
        if self._all_started is None:
            if now - self._begin > self._queue_timeout_s:
                self._give_up([t for t in late if not t.started], "in the queue", "--queue-timeout")
        elif now - self._all_started > self._start_timeout_s:
            self._give_up(late, "starting", "--start-timeout")

    def _give_up(self, late: Sequence[Target], doing: str, option: str) -> None:
        seconds = self._queue_timeout_s if doing == "in the queue" else self._start_timeout_s
        states = "; ".join(f"{t.service} job {t.job_id}: {t.detail}" for t in late)
        raise DeadlineError(
            f"still {doing} after {seconds:g} s ({states}); allow more with {option}."
        )
