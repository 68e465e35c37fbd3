"""The benchmarks of a client service: one at a time, found again by their ids."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from client.api.benchmark_answers import BenchmarkState, Progress
from client.errors import BenchmarkFailed, CannotWrite, Conflict, Unknown
from client.handover import benchmark as handed_over
from client.settings import ServiceSettings
from contracts.histograms import Tally, TallyCounts
from contracts.json_object import JsonObject
from contracts.load import RUN_ID, RunSpec
from contracts.validation import shown
from loadgen.load import child_process

if TYPE_CHECKING:
    from contracts.summary import Summary

RUNS_REMEMBERED = 100


class Measured(Protocol):
    """What benchmarks are of."""

    settings: ServiceSettings

    def api_for(self, api: str | None) -> str:
        """Return `api`, or what it speaks as a rule. Raises BadInput: it does not speak that."""

    def urls(self) -> list[str]:
        """Return where it is, now. Raises RequestError: it is not to be had."""

    def model_for(self, model: str | None) -> str:
        """Return `model`, or the deployment's. Raises BadInput if there is neither."""

    def exit_sentence(self) -> str:
        """Return a sentence that its job has ended; empty if not."""


@dataclass(frozen=True)
class Totals:
    """Requests of all benchmarks that have ended, and of the one that runs: how many are in flight,
    are planned (0: its time is given), and are done."""

    finished: Tally
    running: bool
    in_flight: int
    planned: int
    done: int


@dataclass(frozen=True)
class Described:
    """What is known of a benchmark: its state, and once it has left results, all of summary.json
    and `results`, as they are there."""

    state: BenchmarkState
    result: JsonObject = field(default_factory=dict)

    def as_json(self) -> JsonObject:
        """Return both, as one object."""
        return {**self.state.as_json(), **self.result}


class Benchmarks:
    """The runs of the load generator: one at a time, found again by their ids, also on disk."""

    def __init__(
        self,
        folder: Path,
        context: Path | None = None,
        monitoring: Callable[[], child_process.MonitoringUrls] = child_process.MonitoringUrls,
        chain: Path | None = None,
        token_file: Path | None = None,
        authority: Path | None = None,
        addresses: Path | None = None,
    ) -> None:
        """`context`: a file that goes into each result, if it is there. `monitoring` is asked at
        the beginning of each run. `chain`: the folder that is there if jobs follow this one, whose
        services may be asked about a run; `token_file`: the key that what is measured asks for;
        `authority`: what to trust if that speaks TLS; `addresses`: the file of where the engine's
        replicas are now."""
        RunSpec.model_rebuild()  # now: pydantic must not make it in several threads at once
        self._folder = folder
        self._context = context
        self._monitoring = monitoring
        self._token_file, self._authority = token_file, authority
        self._addresses, self._chain = addresses, chain
        self._runs: dict[str, child_process.ChildRun] = {}
        self._lock = threading.Lock()
        self._past = Tally()  # of the runs that are over
        self._going_on: list[child_process.ChildRun] = []  # those that are not in it yet
        self._counting = threading.Lock()

    def running(self) -> child_process.ChildRun | None:
        """Return the run that goes on now."""
        return next(
            (run for run in list(self._runs.values()) if run.state == child_process.RUNNING), None
        )

    def last(self) -> child_process.ChildRun | None:
        """Return the run that goes on, or the last one that did."""
        return next(reversed(list(self._runs.values())), None)

    def reports(self) -> list[str]:
        """Return the ids of runs of this service that have a report, the latest first."""
        known = reversed(list(self._runs))
        return [run_id for run_id in known if (self._folder / run_id / "report.html").exists()]

    def totals(self) -> Totals:
        """Return what the requests of all runs amount to, also of those that go on; after the end
        of a run what the load generator itself has counted."""
        with self._counting:
            for run in [run for run in self._going_on if run.state != child_process.RUNNING]:
                _add(self._past, run)
                self._going_on.remove(run)
            finished = Tally().add(self._past.as_dict())
            for run in self._going_on:
                _add(finished, run)
            last = self._going_on[-1].last_progress if self._going_on else {}
            return Totals(
                finished,
                bool(self._going_on),
                in_flight=last.get("in_flight") or 0,
                planned=last.get("planned") or 0,
                done=last.get("done") or 0,
            )

    def start(
        self, run_id: str, job: RunSpec, urls: Callable[[], list[str]]
    ) -> child_process.ChildRun | None:
        """Start a run, or join the one with this id; None if its results are on disk already, or
        the job before goes on with it.

        Raises Conflict: another one runs, or the id is that of a run with other parameters;
        CannotWrite.
        """
        with self._lock:
            if self._exists(run_id, job):
                return self._runs.get(run_id)
            running = self.running()
            if running is not None:
                raise Conflict(f"The benchmark {running.id} is running; one at a time.")
            while len(self._runs) >= RUNS_REMEMBERED:
                self._runs.pop(next(iter(self._runs)))
            self._runs[run_id] = run = self._begin(run_id, job, urls())
            if self._chain is not None and self._chain.is_dir():
                handed_over.announce(run)
            with self._counting:
                self._going_on.append(run)
            return run

    def _begin(self, run_id: str, job: RunSpec, urls: list[str]) -> child_process.ChildRun:
        context = self._context if self._context and os.access(self._context, os.R_OK) else None
        place = place_of(context) if context else None
        elsewhere = job.retrieval or job.through == "door"
        try:
            return child_process.ChildRun(
                run_id,
                self._folder / run_id,
                job,
                urls,
                context,
                place,
                self._monitoring(),
                self._token_file,
                self._authority if urls[0].startswith("https:") else None,
                None if elsewhere else self._addresses,
            )
        except OSError as error:
            raise CannotWrite(f"The benchmark cannot start: {error}.") from error

    def _exists(self, run_id: str, job: RunSpec) -> bool:
        """Whether a run of this id goes on or has results; a failed one may be begun again."""
        run, folder = self._runs.get(run_id), self._folder / run_id
        goes_on = handed_over.goes_on(folder) if run is None else run.state == child_process.RUNNING
        if not goes_on and not (folder / "summary.json").exists():
            return False
        before = child_process.read_job(folder)
        if before is not None and before != job:
            asked = json.dumps(before.model_dump(exclude_none=True))
            raise Conflict(f"The benchmark {run_id} exists with other parameters: {asked}.")
        return True

    def describe(self, run_id: str) -> Described:
        """Return state, progress and, once it has ended, the result. Raises Unknown."""
        folder, run = self._folder / run_id, self._runs.get(run_id)
        if run is None:
            with self._lock:  # one that is just being started has its folder before it is known
                run = self._runs.get(run_id)
        if run is not None and run.state in (child_process.RUNNING, child_process.FAILED):
            return _so_far(run)
        if not RUN_ID.fullmatch(run_id) or not folder.is_dir():
            raise Unknown(f"There is no benchmark {shown(run_id)}.")
        if run is None and handed_over.goes_on(folder):
            so_far = handed_over.progress(folder)
            return Described(
                BenchmarkState(id=run_id, state=child_process.RUNNING, progress=so_far)
            )
        found = _stored(run_id, folder)
        if run is not None and run.state == child_process.CANCELLED and not found.result:
            return _so_far(run)  # before anything was measured
        return found

    def cancel(self, run_id: str) -> BenchmarkState:
        """End a run; what was measured is kept. Raises Unknown, CannotWrite, Conflict: it has
        ended."""
        run = self._runs.get(run_id)
        if run is not None and run.state == child_process.RUNNING:
            run.cancel()
        found = self.describe(run_id).state
        if found.state == child_process.RUNNING:
            try:
                handed_over.cancel(self._folder / run_id)
            except OSError as error:
                raise CannotWrite(f"The benchmark cannot be ended: {error}.") from error
            found = self.describe(run_id).state
        if found.state != child_process.CANCELLED:
            raise Conflict(f"The benchmark {run_id} has ended already: {found.state}.")
        return found


def _add(tally: Tally, run: child_process.ChildRun) -> None:
    progress = run.last_progress
    if "histograms" in progress:  # else it has sent none yet
        tally.add(cast("TallyCounts", progress))


def _so_far(run: child_process.ChildRun) -> Described:
    progress = Progress(**run.progress())
    if not run.error:
        return Described(BenchmarkState(id=run.id, state=run.state, progress=progress))
    words = BenchmarkFailed(run.error).words
    return Described(BenchmarkState(id=run.id, state=run.state, progress=progress, error=words))


def _stored(run_id: str, folder: Path) -> Described:
    """A run by what it left on disk."""
    try:
        result = child_process.read_result(folder)
    except (OSError, ValueError) as error:
        raise BenchmarkFailed(f"The results in {folder} cannot be read: {error}.") from error
    if result is None:
        words = BenchmarkFailed(f"It left no results in {folder}.").words
        failed = BenchmarkState(id=run_id, state=child_process.FAILED, progress=None, error=words)
        return Described(failed)
    state = child_process.CANCELLED if result.summary.stopped else child_process.DONE
    progress = _progress(result.summary)
    return Described(BenchmarkState(id=run_id, state=state, progress=progress), result.told)


def _progress(summary: Summary) -> Progress:
    """How far a run had come that ended."""
    requests, whole = summary.requests, summary.seconds.whole
    return Progress(
        phase="measure",
        planned=requests.planned,
        done=requests.completed,
        failed=requests.failed,
        in_flight=0,
        elapsed_seconds=summary.seconds.warmup + whole,
        requests_per_second=requests.succeeded / whole if requests.succeeded else None,
        ttft_p50=summary.latency("ttft").p50,
        output_tokens_per_second=summary.throughput.output_tokens_per_second,
    )


def place_of(record: Path) -> str | None:
    """Return "gpu" if a deployment's record asks for GPUs and accepts nothing else; None if not,
    or if it says itself how many of the model's layers are there."""
    try:
        found = json.loads(record.read_text("utf-8"))
        service = found["recipe"]["job"]["service"]
        elsewhere = service["allow_cpu"] or service.get("num_gpu") is not None
        return "gpu" if found["gpus"] and not elsewhere else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is not one of ours


def new_id() -> str:
    """Return a run id that nobody has: the time, to find it again, and chance."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
