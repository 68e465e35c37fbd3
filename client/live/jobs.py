"""The deployment's jobs: by what they have written themselves, and by what the scheduler has said
of them to the client's job (lib/watch.sh)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from client.settings import ServiceSettings
from contracts.files import write_whole
from contracts.job_files import began_at, read_exit_status
from contracts.jobs.ids import join, number_of
from contracts.jobs.reasons import explain
from contracts.jobs.states import JobStatus, Verdict, moment
from contracts.json_object import JsonObject
from contracts.live.state import Handover, Job, Successor
from engines.json_values import part_of, text_of
from engines.servers.deployable import DEPLOYED

#: Seconds for which the scheduler's word counts; it is asked each 15 s (lib/watch.sh).
FRESH_S = 60.0
#: A node of several.
_LISTED = "[,"


@dataclass(frozen=True)
class _Seen:
    """What is known of a job."""

    state: str
    reason: str
    host: str | None = None
    began: float | None = None
    expected: float | None = None
    ends: float | None = None


class Jobs:
    """Looks at the files of all jobs of a deployment."""

    def __init__(self, settings: ServiceSettings, deployment: str) -> None:
        self._settings, self._output = settings, settings.output
        self._folder = settings.output / "deployments" / f"{deployment}.live"
        self._wanted = ""

    def watch(self, ids: Mapping[str, str], handover: Handover | None) -> None:
        """Have the scheduler asked about these jobs and their successors."""
        wanted = " ".join(dict.fromkeys([*ids.values(), *_next(handover).values()]))
        if wanted == self._wanted:
            return
        try:
            write_whole(self._folder / "watched", [wanted + "\n"])
            self._wanted = wanted
        except OSError:
            return  # the jobs' own files say most of it

    def rest(self) -> None:
        """Nobody watches: have it asked no more."""
        self._wanted = ""
        try:
            (self._folder / "watched").unlink(missing_ok=True)
        except OSError:
            return

    def ids(self, record: JsonObject) -> dict[str, str]:
        """Return the ids of the jobs by service: ours, and others that the record has."""
        jobs = part_of(record, "jobs")
        found = {
            service: join(text_of(part_of(jobs, service), "id") or "",
                          text_of(part_of(jobs, service), "cluster") or "")
            for service in jobs
        }  # fmt: skip
        own = {"client": self._settings.job_id or ""}
        if self._settings.server is None:
            own[DEPLOYED[self._settings.engine].service] = self._settings.engine_job()
        for service, number in own.items():
            if number and number_of(found.get(service, "")) != number:
                found[service] = number
        return {service: job_id for service, job_id in found.items() if job_id}

    def all(self, ids: Mapping[str, str], handover: Handover | None) -> tuple[Job, ...]:
        """Return all of them as they are now."""
        said, successors = self._said(), _next(handover)
        engine = DEPLOYED[self._settings.engine].service
        of_service = {"client": successors.get("client"), engine: successors.get("engine")}
        limit_s = self._limit_s()
        found = []
        for service, job_id in ids.items():
            seen, after = self._see(job_id, said), of_service.get(service)
            ends = seen.ends
            if ends is None and seen.began is not None and limit_s is not None:
                ends = seen.began + limit_s
            over = JobStatus(seen.state).over
            found.append(
                Job(
                    service=service,
                    id=number_of(job_id),
                    state=seen.state,
                    reason=seen.reason,
                    host=seen.host,
                    began=seen.began,
                    expected=seen.expected,
                    ends=None if over else ends,
                    successor=self._successor(after, said) if after else None,
                )
            )
        return tuple(found)

    def _successor(self, job_id: str, said: Mapping[str, _Seen]) -> Successor:
        seen = self._see(job_id, said)
        return Successor(id=number_of(job_id), state=seen.state, reason=seen.reason)

    def _limit_s(self) -> float | None:
        """Of our own job, which is that of all."""
        began = began_at(self._output, self._settings.job_id or "")
        end = self._settings.job_end
        return None if began is None or end is None else end - began

    def _see(self, job_id: str, said: Mapping[str, _Seen]) -> _Seen:
        number = number_of(job_id)
        host, began = self._host(number), began_at(self._output, number)
        status = read_exit_status(self._output, number)
        if status is not None:
            state = "COMPLETED" if status.exit_code == 0 else "FAILED"
            words = f"has ended with exit code {status.exit_code}"
            reason = f"{words}: {status.reason}" if status.reason else words
            return _Seen(state, reason, host, began)
        seen = said.get(number) or self._local(number)
        if seen is None:
            state = "PENDING" if began is None else "RUNNING"
            return _Seen(state, JobStatus(state).words, host, began)
        if began is not None and JobStatus(seen.state).in_queue:  # it has begun since it was asked
            return _Seen("RUNNING", JobStatus("RUNNING").words, host, began, ends=seen.ends)
        return _Seen(
            seen.state,
            seen.reason,
            host or seen.host,
            began or seen.began,
            seen.expected,
            seen.ends,
        )

    # --- files ---

    def _host(self, number: str) -> str | None:
        try:
            path = self._output / "logs" / f"{number}.started"
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return None
        return lines[0] if lines else None

    def _local(self, number: str) -> _Seen | None:
        """A job of this machine, by what its runner has written."""
        try:
            told = json.loads((self._output / "local_jobs" / f"{number}.json").read_bytes())
            state, began = str(told["state"]), told.get("started")
            ends = None if began is None else float(began) + float(told["time_seconds"])
            reason = text_of(told, "reason")
        except (OSError, ValueError, LookupError, TypeError):
            return None
        words = JobStatus(state).words
        return _Seen(state, f"{words}: {reason}" if reason else words, began=began, ends=ends)

    def _said(self) -> dict[str, _Seen]:
        """What the scheduler has said lately, by the numbers of jobs."""
        path = self._folder / "jobs"
        try:
            if time.time() - path.stat().st_mtime > FRESH_S:
                return {}
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return {}
        return {
            parts[0]: _of_line(*parts) for line in lines if len(parts := line.split("|", 5)) == 6
        }


def _of_line(number: str, state: str, begins: str, ends: str, nodes: str, reason: str) -> _Seen:
    """A job as lib/watch.sh has it written down."""
    status = JobStatus(state)
    words, waits = status.words, status.verdict is Verdict.WAITING
    if waits and reason:
        words += f": {explain(reason, number)}"
    at = moment(begins)
    return _Seen(
        state,
        words,
        None if not nodes or any(mark in nodes for mark in _LISTED) else nodes,
        None if waits else at,
        at if waits else None,
        None if waits else moment(ends),
    )


def _next(handover: Handover | None) -> dict[str, str]:
    """The ids of the jobs that take over."""
    if handover is None or handover.successor is None:
        return {}
    told = {"client": handover.successor.client, "engine": handover.successor.engine}
    return {name: job_id for name, job_id in told.items() if job_id}
