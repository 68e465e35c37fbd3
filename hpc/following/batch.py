"""A batch that a deployment works off: followed to its end, which is the deployment's."""

from __future__ import annotations

import time
from pathlib import Path

from batch.files import Files
from batch.state import BatchState, read_state
from contracts.errors import (
    EXIT_SOME_FAILED,
    EXIT_STOPPED,
    BatchEnded,
    DeadlineError,
    SchedulerUnavailable,
    ServiceError,
    UsageError,
)
from contracts.job_files import ExitStatus
from contracts.jobs.states import GONE
from hpc.console import Console, Rows
from hpc.deployments.chain import Chain, state_after, take_up
from hpc.deployments.ends import Ends
from hpc.deployments.records import Record
from hpc.deployments.stopping import stop
from hpc.endpoints import OutputDir
from hpc.following.polling import POLL_INTERVAL_S
from hpc.lines import Lines
from hpc.scheduler.interface import Scheduler
from hpc.scheduler.registry import kind_of

#: Between two looks at the files of the batch, and at jobs on this machine.
LOOK_S, LOOK_HERE_S = 0.5, 2.0
#: Exit codes that are the batch's own; after any other one the service has failed.
_OWN = (UsageError.exit_code, DeadlineError.exit_code, EXIT_STOPPED)


class BatchFollower:
    """Follows the batch of one deployment, whichever of its jobs works on it."""

    def __init__(
        self, record: Record, scheduler: Scheduler, output: OutputDir, console: Console
    ) -> None:
        """`record`: of a deployment that has a batch."""
        self._record, self._scheduler = record, scheduler
        self._output, self._console = output, console
        self._chain = Chain(output.path, record.id)
        self._files = Files(Path((record.batch or {})["output"]))
        self._ends = Ends(record, output)
        here = kind_of(record.scheduler).this_machine
        self._every_s = LOOK_HERE_S if here else POLL_INTERVAL_S
        self._asked_at = time.monotonic()

    def gone_on(self) -> bool:
        """Whether the jobs that are waited for have ended as they should: the batch is at its end,
        or others go on with it."""
        return self._chain.end is not None or take_up(self._record, self._output)

    def follow(self) -> None:
        """Show how far it is until it ends, with all of its jobs.

        Raises BatchEnded if lines have failed or are missing, ServiceError if its job has died.
        """
        lines = Lines(lambda line: self._console.tell("batch", line), self._line)
        with self._console.live(self._rows, lines.tick):
            while (end := self._chain.end) is None:
                self._check_jobs()
                time.sleep(LOOK_S)
        stop(self._record, self._scheduler, self._output, state_after(end))
        self._report(end)

    def _check_jobs(self) -> None:
        before = self._record.jobs["client"]
        if take_up(self._record, self._output) and (job := self._record.jobs["client"]) != before:
            self._console.tell("batch", f"goes on in job {job}, once that begins")
        if time.monotonic() - self._asked_at < self._every_s:
            return
        self._asked_at = time.monotonic()
        client = self._record.jobs["client"]
        try:
            status = self._scheduler.statuses([client]).get(client, GONE)
        except SchedulerUnavailable:
            return
        ended = self._ends.words("client", status)
        if ended is not None and not self.gone_on():
            tail = self._output.log_tail("client", client)
            raise ServiceError(
                f"the client job {client}, which worked off the batch, {ended}; what is answered "
                "is kept, and the same command goes on with it.",
                tail,
            )

    # --- words ---

    @property
    def _state(self) -> BatchState:
        """As the worker says it; nothing of an earlier deployment's."""
        state = read_state(self._files.state)
        since = self._record.created.timestamp()
        old = state is None or self._files.state.stat().st_mtime < since
        return BatchState(problem="the jobs are not at work yet") if old or not state else state

    def _line(self) -> str:
        state = self._state
        if not state.total:
            return state.problem or state.state
        left = "" if state.eta_s is None else f", {state.eta_s:.0f} s left"
        return (
            f"{state.completed} of {state.total} lines are answered, {state.failed} have failed; "
            f"{state.rate:.1f} requests/s, {state.output_tokens} tokens{left}"
        )

    def _rows(self) -> Rows:
        state, batch = self._state, self._record.batch or {}
        job = f"{self._record.jobs['client']} ({batch['job']} of at most {batch['max_jobs']})"
        eta = "-" if state.eta_s is None else f"{state.eta_s:.0f} s"
        head = ["job", "answered", "failed", "rate", "output", "left"]
        rate, tokens = f"{state.rate:.1f} requests/s", f"{state.output_tokens} tokens"
        done = f"{state.completed} of {state.total}"
        return [head, [job, done, str(state.failed), rate, tokens, eta]]

    def _report(self, end: ExitStatus) -> None:
        state = self._state
        if state.total:
            self._console.say(
                f"batch: {state.completed} of {state.total} lines are answered, {state.failed} "
                f"have failed, {state.reused} were answered before"
            )
            self._console.say(f"  in {self._files.answers}")
        if end.exit_code == 0:
            return
        if end.exit_code == EXIT_SOME_FAILED:
            raise BatchEnded(
                f"{state.failed} of {state.total} lines have failed in the end: "
                f"{self._files.errors} says why, and the same command asks them again.",
                EXIT_SOME_FAILED,
            )
        code = end.exit_code if end.exit_code in _OWN else ServiceError.exit_code
        why = state.problem if code == UsageError.exit_code and state.problem else end.reason
        client = self._record.jobs["client"]
        tail = () if code == end.exit_code else self._output.log_tail("client", client)
        raise BatchEnded(f"the batch is not worked off: {why.rstrip('.')}.", code, tail)
