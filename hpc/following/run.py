"""One run of orch.py on one deployment: what it submits it cancels when it fails."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from contracts.errors import BatchEnded, BenchmarkInvalid, Detached, Interrupted, OrchError
from hpc.console import Console
from hpc.deployment import Deployment
from hpc.deployments.records import Record
from hpc.endpoints import OutputDir
from hpc.planning.plan import Plan
from hpc.scheduler.interface import Scheduler
from hpc.scheduler.registry import kind_of
from hpc.signals import held

if TYPE_CHECKING:
    from hpc.following.follower import Follower
    from hpc.service import Service


class Run:
    """Used as a context. When it fails, the deployment's jobs are cancelled; a benchmark that is
    not valid, a batch that has ended it, and a lost terminal, leave the deployment as it is; so
    does all else, but for Ctrl-C, once one is ready that outlives its jobs."""

    def __init__(
        self,
        record: Record,
        scheduler: Scheduler,
        output: OutputDir,
        console: Console,
        given: argparse.Namespace,
    ) -> None:
        """`given`: the command line, whose --keep-on-failure, --detach and --json count here."""
        self.record = record
        self._scheduler = scheduler
        self._output = output
        self._console = console
        self._given = given

    def __enter__(self) -> Run:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if error is not None and not self._goes_on(error):
                with held():
                    self._fail(error)
        finally:
            self._scheduler.close()
            if self._given.json:
                self._console.json(self.record.as_json())
        if error is None and self._given.detach:
            again = self._output.command("--attach", self.record.id)
            self._console.say(f"{self.record.id} goes on by itself; {again}")

    def _goes_on(self, error: BaseException) -> bool:
        """Whether the deployment does, for others: also if what was asked of it did not outlive its
        jobs, as it does itself."""
        lasts = self.record.chain is not None and self.record.state == "ready"
        return isinstance(error, (BatchEnded, BenchmarkInvalid, Detached)) or (
            lasts and not isinstance(error, Interrupted)
        )

    def _fail(self, error: BaseException) -> None:
        if self._given.keep_on_failure and not isinstance(error, Interrupted):
            self.record.update(error=str(error))
            self._console.tell("orch", f"{self.record.id} is kept, as --keep-on-failure asks")
        else:
            self._cancel(error)

    def submit(self, plan: Plan, services: Sequence[Service]) -> None:
        """Submit all jobs. No signal comes between a job and its being written down."""
        if plan.fit is not None:
            self._console.tell("memory", plan.fit.line)
        for source, words in plan.remarks:
            self._console.tell(source, words)
        with held():
            deployment = Deployment(
                self.record.id, plan, self._output, self._scheduler, self.record
            )
            for service in services:
                service.set_up(deployment)
            self.record.update(state="starting")
        for name, job_id in self.record.jobs.items():
            self._console.tell(name, f"job {job_id} is submitted")

    def follower(self, services: Sequence[Service]) -> Follower:
        """Who waits for the services, and uses them."""
        # Only now, with the jobs on their way: loading what follows takes a while.
        from hpc.following.follower import Follower
        from hpc.service import Launched

        self._sweep()
        launched = Launched(self.record, self._output)
        return Follower(launched, services, self._scheduler, self._console)

    def _sweep(self) -> None:
        """Clear what dead jobs left in the output directory."""
        from hpc.deployments.leftovers import clear_dead_files

        kind = kind_of(self.record.scheduler)
        ours = set(self.record.jobs.values())
        dead = clear_dead_files(self._output, self._scheduler, kind, ours)
        if dead:
            self._console.tell("orch", f"removed what dead jobs left: {', '.join(dead)}")

    def _cancel(self, error: BaseException) -> None:
        """Cancel what was submitted, and write down why."""
        from hpc.deployments.stopping import stop

        jobs = [f"{service} job {job_id}" for service, job_id in self.record.jobs.items()]
        if jobs:
            self._console.tell("orch", f"cancelling {', '.join(jobs)}")
        state = "stopped" if isinstance(error, Interrupted) else "failed"
        ended = datetime.now().astimezone().isoformat(timespec="milliseconds")
        try:
            stop(self.record, self._scheduler, self._output, state)
            self.record.update(error=str(error), ended=ended)
        except OrchError as second:  # the first one is what the user is to know
            remedy = self._output.command("--stop", self.record.id)
            self._console.error(f"{second.message} then: {remedy}")
