"""What is known of a deployment without its client service: by its record and its scheduler."""

from __future__ import annotations

import time
from collections.abc import Mapping

from contracts.errors import SchedulerError
from contracts.job_files import internal_token_file, url_of
from contracts.jobs.ids import number_of
from contracts.jobs.states import GONE, JobStatus, Verdict
from contracts.live.state import Deployment, Job, State
from engines.json_values import part_of, text_of
from hpc.deployments.chain import Chain, take_up
from hpc.deployments.ends import Ends
from hpc.deployments.jobs import scheduler_of
from hpc.deployments.records import Record, find_record
from hpc.deployments.refreshing import refresh
from hpc.endpoints import BadAddressFile, OutputDir
from hpc.scheduler.interface import Scheduler
from hpc.scheduler.registry import kind_of

#: Seconds between two questions to the scheduler; to this machine's, which reads files.
ASK_S, ASK_HERE_S = 15.0, 1.0
#: Seconds for which it is left to whoever stops a deployment to write down that it is stopped, once
#: its jobs have ended: he looks each 5 s at the latest, and may have been killed.
STOPS_S = 15.0


class Before:
    """A deployment, looked at from outside."""

    def __init__(self, record: Record, output: OutputDir) -> None:
        self.record, self._output = record, output
        here = kind_of(record.scheduler).this_machine
        self._every_s = ASK_HERE_S if here else ASK_S
        self._statuses: Mapping[str, JobStatus] = {}
        self._problem = ""
        self._asked_at = -self._every_s
        self._over_at: float | None = None

    def look(self) -> State:
        """Return what is known now; the scheduler is asked if it is time."""
        self.record = find_record(self._output.path, self.record.id)  # others write it, too
        if self.record.live:
            take_up(self.record, self._output)
        scheduler = scheduler_of([self.record], self._output)
        if self.record.live and time.monotonic() - self._asked_at >= self._every_s:
            self._asked_at = time.monotonic()
            self._ask(scheduler)
        ends = Ends(self.record, self._output)
        jobs = [self._job(service, job, ends, scheduler)
                for service, job in self.record.jobs.items()]  # fmt: skip
        return State(time=time.time(), deployment=self._deployment(), jobs=tuple(jobs))

    def ended(self) -> bool:
        """Return whether it has, as its jobs have written it or the scheduler knows."""
        client = self.record.jobs.get("client")
        if self.record.live and (client is None or self._output.exit_status(client) is not None):
            self._asked_at = time.monotonic()
            self._refresh()
        return not self.record.live

    @property
    def url(self) -> str | None:
        """Where its client service is, by the address file of its newest job; None: not yet."""
        job = self.record.jobs.get("client")
        try:
            found = self._output.addresses("client", job) if job else []
        except BadAddressFile:
            return None
        token = internal_token_file(self._output.path, self.record.id)
        return url_of(found[0], token) if found else None

    def _ask(self, scheduler: Scheduler) -> None:
        try:
            self._statuses, self._problem = scheduler.statuses(list(self.record.jobs.values())), ""
        except SchedulerError as error:
            self._problem = error.message
            return
        over = [self._statuses.get(job, GONE) for job in self.record.jobs.values()]
        if over and all(status.over or status is GONE for status in over):
            self._refresh()

    def _refresh(self) -> None:
        self.record = find_record(self._output.path, self.record.id)
        if self._is_being_stopped():
            return
        try:
            refresh([self.record], self._output)
        except SchedulerError as error:
            self._problem = error.message

    def _is_being_stopped(self) -> bool:
        """Whether somebody stops it: that its jobs have ended then is no failure of theirs."""
        if self.record.state != "stopping" or Chain(self._output.path, self.record.id).end:
            return False
        now = time.monotonic()
        self._over_at = self._over_at or now
        return now - self._over_at < STOPS_S

    def _deployment(self) -> Deployment:
        record = self.record
        facts = record.as_json()
        job = part_of(facts["recipe"], "job")
        url = self.url
        return Deployment(
            id=record.id,
            name=text_of(job, "name") or record.id,
            model=record.model,
            engine=text_of(part_of(job, "service"), "engine") or "ollama",
            state="starting" if record.live else "ended",
            reason=self._problem,
            address=url or "",
            security=text_of(facts.get("settings") or {}, "security") or "none",
        )

    def _job(self, service: str, job_id: str, ends: Ends, scheduler: Scheduler) -> Job:
        status = self._statuses.get(job_id, GONE)
        ended, words = ends.words(service, status), status.words
        if status is GONE:
            words = "is not known to the scheduler" if self._statuses else "is not looked up yet"
        elif status.verdict is Verdict.WAITING and status.reason:
            words += f": {scheduler.explain(status.reason, job_id)}"
        waits, left = status.verdict is Verdict.WAITING, status.left_s
        runs = status.verdict is Verdict.RUNNING and left is not None
        return Job(
            service=service,
            id=number_of(job_id),
            state=status.state,
            reason=ended or words,
            host=self._output.host(job_id),
            began=None if waits else status.start,
            expected=status.start if waits else None,
            ends=time.time() + left if runs and left is not None else None,
        )
