"""The benchmarks of a client service: one at a time, found again by their ids."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from client.checks import shown
from client.errors import BenchmarkFailed, CannotWrite, Conflict, Unknown, error_object
from loadgen import child
from loadgen.buckets import Tally
from loadgen.options import DEFAULT_PROMPT, RUN_ID

RUNS_REMEMBERED = 100


@dataclass(frozen=True)
class Seen:
    """Requests of all benchmarks that have ended, and of the one that runs: how many are in flight,
    are planned (0: its time is given), and are done."""

    ended: Tally
    running: bool
    in_flight: int
    planned: int
    done: int


class Benchmarks:
    """The runs of the load generator: one at a time, found again by their ids, also on disk."""

    def __init__(
        self,
        folder: Path,
        context: Path | None = None,
        monitoring: Callable[[], child.Monitoring] = child.Monitoring,
    ) -> None:
        """`context`: a file that goes into each result, where it is there. `monitoring` is asked at
        the beginning of each run."""
        self._folder = folder
        self._context = context
        self._monitoring = monitoring
        self._runs: dict[str, child.Run] = {}
        self._lock = threading.Lock()
        self._past = Tally()  # of the runs that are over
        self._going_on: list[child.Run] = []  # those that are not in it yet
        self._counting = threading.Lock()

    def running(self) -> child.Run | None:
        """The run that goes on now."""
        return next((run for run in list(self._runs.values()) if run.state == child.RUNNING), None)

    def seen(self) -> Seen:
        """What the requests of all runs amount to, also of those that go on; after the end of a run
        what the load generator itself has counted."""
        with self._counting:
            for run in [run for run in self._going_on if run.state != child.RUNNING]:
                _add(self._past, run)
                self._going_on.remove(run)
            ended = Tally().add(self._past.as_dict())
            for run in self._going_on:
                _add(ended, run)
            last = self._going_on[-1].seen if self._going_on else {}
            counts = (last.get(name) or 0 for name in ("in_flight", "planned", "done"))
            return Seen(ended, bool(self._going_on), *counts)

    def start(self, run_id: str, job: child.Job, urls: Callable[[], list[str]]) -> child.Run | None:
        """Start a run, or join the one with this id; None where its results are on disk already.

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
            with self._counting:
                self._going_on.append(run)
            return run

    def _begin(self, run_id: str, job: child.Job, urls: list[str]) -> child.Run:
        context = self._context if self._context and os.access(self._context, os.R_OK) else None
        place = place_of(context) if context else None
        try:
            return child.Run(
                run_id, self._folder / run_id, job, urls, context, place, self._monitoring()
            )
        except OSError as error:
            raise CannotWrite(f"The benchmark cannot start: {error}.") from error

    def _exists(self, run_id: str, job: child.Job) -> bool:
        """Whether a run of this id goes on or has results; a failed one may be begun again."""
        run, folder = self._runs.get(run_id), self._folder / run_id
        running = run is not None and run.state == child.RUNNING
        if not running and not (folder / "summary.json").exists():
            return False
        before = child.read_job(folder)
        if before is not None and before != job:
            raise Conflict(f"The benchmark {run_id} exists with other parameters: {before}.")
        return True

    def describe(self, run_id: str) -> dict[str, Any]:
        """State, progress and, once it has ended, the result. Raises Unknown."""
        run, folder = self._runs.get(run_id), self._folder / run_id
        if run is not None and run.state in (child.RUNNING, child.FAILED):
            failed = error_object(BenchmarkFailed.kind, run.error) if run.error else {}
            return {"id": run_id, "state": run.state, "progress": run.progress(), **failed}
        if not RUN_ID.fullmatch(run_id) or not folder.is_dir():
            raise Unknown(f"There is no benchmark {shown(run_id)}.")
        found = _stored(folder)
        if run is not None and run.state == child.CANCELLED and "results" not in found:
            found = {"state": run.state, "progress": run.progress()}  # before anything was measured
        return {"id": run_id, **found}

    def cancel(self, run_id: str) -> dict[str, Any]:
        """End a run; what was measured is kept. Raises Unknown, Conflict: it has ended."""
        run = self._runs.get(run_id)
        if run is not None and run.state == child.RUNNING:
            run.cancel()
        found = self.describe(run_id)
        if found["state"] != child.CANCELLED:
            raise Conflict(f"The benchmark {run_id} has ended already: {found['state']}.")
        return {key: found[key] for key in ("id", "state", "progress")}


def _add(tally: Tally, run: child.Run) -> None:
    seen = run.seen
    if "histograms" in seen:  # it has said something
        tally.add(seen)


def _stored(folder: Path) -> dict[str, Any]:
    """State, progress and result of a run by what it left on disk."""
    try:
        result = child.read_result(folder)
    except (OSError, ValueError) as error:
        raise BenchmarkFailed(f"The results in {folder} cannot be read: {error}.") from error
    if result is None:
        nothing = error_object(BenchmarkFailed.kind, f"It left no results in {folder}.")
        return {"state": child.FAILED, "progress": None, **nothing}
    requests, seconds = result["requests"], result["seconds"]
    progress = {
        "phase": "measure",
        "planned": requests["planned"],
        "done": requests["succeeded"] + requests["failed"],
        "failed": requests["failed"],
        "elapsed_seconds": seconds["warmup"] + seconds.get("total", seconds["measured"]),
        "requests_per_second": result["queries_per_second"],
        "ttft_p50": result["latency_seconds"]["ttft"]["p50"],
        "output_tokens_per_second": result["throughput"]["output_tokens_per_second"],
    }
    state = child.CANCELLED if result["stopped"] else child.DONE
    return {"state": state, "progress": progress, **result}


_AS_GIVEN = (
    "num_predict",
    "rate",
    "arrivals",
    "max_concurrency",
    "duration_seconds",
    "timeout_seconds",
    "goodput",
    "input_tokens",
    "processes",
)


def place_of(record: Path) -> str | None:
    """ "gpu" where a deployment's record asks for GPUs and accepts nothing else; None: anywhere."""
    try:
        found = json.loads(record.read_text("utf-8"))
        accepts_cpu = found["recipe"]["job"]["service"]["allow_cpu"]
        return "gpu" if found["gpus"] and not accepts_cpu else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is not one of ours


def job_of(given: Mapping[str, Any], model: str) -> child.Job:
    """What the load generator is to do, with the defaults for what was not given."""
    clients = None if "rate" in given else given.get("n_clients", 1)
    requests = given.get("n_requests")
    if clients is not None and "duration_seconds" not in given:
        requests = clients * given.get("n_requests_per_client", 1)
    as_given: dict[str, Any] = {name: given.get(name) for name in _AS_GIVEN}
    return child.Job(
        model=model,
        prompt=given.get("prompt", None if "input_tokens" in given else DEFAULT_PROMPT),
        clients=clients,
        requests=requests,
        seed=given.get("seed", 0),
        warmup=given.get("warmup", 1),
        retrieval=given.get("retrieval", False),
        **as_given,
    )


def new_id() -> str:
    """A run id that nobody has: the time, to find it again, and chance."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
