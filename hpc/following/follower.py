"""From submitted jobs to a finished run: wait, ingest, ask, benchmark.

Works from the record alone, so that --attach does the same as the run that submitted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import BenchmarkInvalid, SchedulerError, ServiceError, UsageError
from contracts.json_object import JsonObject
from hpc.console import Console, Rows
from hpc.endpoints import OutputDir
from hpc.following.answers import Health, Result, read
from hpc.following.benchmark import ask, check_valid, cut_short, run_benchmark
from hpc.following.job_watch import JobEnded, JobWatch
from hpc.following.progress import Progress
from hpc.following.report import benchmark_lines, endpoint_lines, partial_line, source_lines
from hpc.following.target import Target
from hpc.following.waiting import Waiter
from hpc.lines import LINE_EVERY_S, QUEUE_LINE_EVERY_S, Lines, waited
from hpc.recipe.sections import Retrieval
from hpc.scheduler.interface import Scheduler
from hpc.service import Launched, Ready, Service
from hpc.web import call

if TYPE_CHECKING:
    from hpc.deployments.facts import ModelFacts, PlaceFacts
    from hpc.following.batch import BatchFollower


class Follower:
    """Follows one deployment of `services` to its end result."""

    def __init__(
        self, launched: Launched, services: Sequence[Service], scheduler: Scheduler,
        console: Console,
    ) -> None:  # fmt: skip
        jobs = launched.record.jobs
        self._launched = launched
        self._services = [service for service in services if service.name in jobs]
        # Jobs are submitted in the order of the services: with the last one, all are there.
        self._whole = services[-1].name in jobs
        self.record = launched.record
        self.recipe = launched.recipe
        self.model = launched.model
        self._retrieval = self.recipe.job.service.wanted_retrieval
        self._scheduler = scheduler
        self._output: OutputDir = launched.output
        self._console = console
        self._targets = [service.target(launched) for service in self._services]
        needed = {target.service: target.job_id for target in self._targets if target.required}
        measured = next((s.name for s in self._services if s.measured), "")
        self._jobs = JobWatch(needed, measured, scheduler, self._output)
        self._batch = self._follower_of_batch() if launched.record.batch else None

    # --- ready ---

    def wait(self, queue_timeout_s: float, start_timeout_s: float) -> None:
        """Wait until all services are ready, then say at which addresses they are.

        Raises ServiceError, SchedulerError or DeadlineError.
        """
        if not self._whole:
            raise SchedulerError(
                f"{self.record.id} was cut off while its jobs were being submitted; deploy again."
            )
        if self.record.state == "submitting":  # and killed before it could say more
            self.record.save_jobs()
            self.record.update(state="starting")
        targets, began = self._targets, time.monotonic()
        waiter = Waiter(
            targets,
            self._scheduler,
            self._output,
            self._console.tell,
            queue_timeout_s=queue_timeout_s,
            start_timeout_s=start_timeout_s,
        )
        lines = Lines(
            lambda line: self._console.tell("orch", line),
            lambda: _waiting_line(targets, began),
            every_s=lambda: LINE_EVERY_S if _any_starts(targets) else QUEUE_LINE_EVERY_S,
        )
        try:
            with self._console.live(lambda: _rows(targets, began), lines.tick):
                waiter.wait()
        except ServiceError:
            if self._batch is None or not self._batch.gone_on():
                raise
            return  # it was quicker than our looks
        self._set_ready(time.monotonic() - began)
        for line in endpoint_lines(self._launched, self._services):
            self._console.say(line)

    def _set_ready(self, seconds: float) -> None:
        pairs = zip(self._services, self._targets, strict=True)
        found: list[Ready] = [s.ready(self._launched, target) for s, target in pairs]
        endpoints = dict(self.record.endpoints)
        facts: ModelFacts = {}
        for one in found:
            endpoints |= one.endpoints
            facts |= one.facts
        warnings = [warning for one in found for warning in one.warnings]
        self.record.update(
            state="ready",
            ready_after_seconds=round(seconds, 3),
            warnings=warnings,
            **facts,
            **self._where_it_runs(),
            endpoints=endpoints,
        )
        words = ", ".join(r.words for r in found if r.words)
        self._console.tell("orch", f"all is ready{': ' if words else ''}{words}")
        for warning in warnings:
            self._console.tell("WARNING", warning)

    def _where_it_runs(self) -> PlaceFacts:
        """Node and image of each service; without containers there are no images."""
        jobs, output = self.record.jobs, self._output
        images = {service: output.image(job) for service, job in jobs.items()}
        return {
            "nodes": {service: output.host(job) for service, job in jobs.items()},
            "images": {service: image for service, image in images.items() if image},
        }

    # --- use ---

    def _follower_of_batch(self) -> BatchFollower:
        from hpc.following.batch import BatchFollower  # most have none

        return BatchFollower(self.record, self._scheduler, self._output, self._console)

    def work_off(self) -> None:
        """Follow the recipe's batch, when it has one, to its end. Raises BatchEnded or
        ServiceError."""
        if self._batch is not None:
            self._batch.follow()

    def ingest_documents(self) -> None:
        """Bring in the recipe's documents; what becomes of them is the deployment's end only when
        the recipe says so, or a job has ended. Raises ServiceError."""
        if self._retrieval and self._retrieval.documents and self.record.client:
            self._ingest(self._retrieval)

    def _ingest(self, retrieval: Retrieval) -> None:
        from hpc.ingest import ingest_paths, warning_of  # most have no documents

        paths = [Path(document) for document in retrieval.documents]
        details: list[str] = []
        try:
            progress = ingest_paths(
                self._launched.client, paths, retrieval, self._console, self._launched.token_file
            )
            self.record.update(ingest=asdict(progress))
            problem = warning_of(progress)
        except (ServiceError, UsageError) as error:  # documents may have gone since they were seen
            self._jobs.blame()
            self.record.update(ingest={"error": error.message})
            problem, details = error.message.rstrip("."), error.details
        if problem and retrieval.required:
            raise ServiceError(f"{problem}, and the recipe's retrieval is required.", details)
        if problem:
            self._warn(problem, details)

    def _warn(self, problem: str, details: Sequence[str] = ()) -> None:
        self.record.update(warnings=[*self.record.warnings, problem])
        self._console.tell("WARNING", problem)
        for line in details:
            self._console.say(f"  {line}")

    def _has_points(self) -> bool:
        """Whether retrieval can find anything: all documents may have been left out."""
        health = read(Health, self._health())
        return health.retrieval is not None and health.retrieval.points > 0

    def _health(self) -> JsonObject:
        url = f"{self._launched.client}/health"
        return call("GET", url, token_file=self._launched.token_file).json

    def ask_question(self) -> None:
        """Ask the recipe's question, when it has one, and print the answer. Raises ServiceError."""
        question, retrieval = self.recipe.job.service.question, self._retrieval is not None
        if not question:
            return
        if retrieval and not self._has_points():
            self._warn("the question is asked without retrieval: the collection has no points")
            retrieval = False
        with self._console.waiting("client", "the answer to the recipe's question"):
            answer = ask(
                self._launched.client,
                question,
                self.model,
                retrieval,
                token_file=self._launched.token_file,
            )
        self._console.say(f"question: {question}")
        self._console.say(f"answer:   {answer.response.strip()}   ({answer.request_time:.2f} s)")
        for line in source_lines(answer):
            self._console.say(line)

    def benchmark(self) -> None:
        """Run the recipe's benchmark, when it asks for requests, and print its main figures.

        Raises ServiceError or BenchmarkInvalid.
        """
        service = self.recipe.job.service
        if not service.load:
            return
        if self._retrieval and self._retrieval.benchmark and not self._has_points():
            raise BenchmarkInvalid(
                "the benchmark asks with retrieval, and the collection has no points; ingest "
                "documents with --ingest, then measure with POST /benchmark."
            )
        run_id = f"{self.record.id}-1"
        folder = self._output.path / "benchmarks" / run_id
        self.record.update(benchmark={"id": run_id, "state": "running", "folder": str(folder)})
        self._console.tell(
            "orch",
            f"benchmark: {service.in_words()}",
        )
        try:
            self._measure(run_id, folder)
        except JobEnded as ended:
            self._keep_partial(ended, run_id, folder)
            raise

    def _measure(self, run_id: str, folder: Path) -> None:
        progress = Progress(self._tell_progress)
        try:
            with self._console.live(progress.rows, progress.tick):
                result = run_benchmark(
                    self._launched.client,
                    run_id,
                    self.recipe,
                    self.model,
                    self._jobs.check,
                    progress.take,
                    self._launched.token_file,
                )
            self._report(result, run_id, folder)
        except JobEnded:
            raise
        except (ServiceError, BenchmarkInvalid):
            self._jobs.blame()
            raise

    def _tell_progress(self, line: str) -> None:
        """In a log; on a terminal the table shows it."""
        if not self._console.interactive:
            self._console.tell("orch", f"benchmark: {line}")

    def _keep_partial(self, ended: JobEnded, run_id: str, folder: Path) -> None:
        """What was measured up to a job's end is noted, as partial."""
        noted = self.record.benchmark
        if noted is None or noted.state != "running":
            return  # the run came to its end, and was reported
        summary = cut_short(self._launched.client, run_id, folder, self._launched.token_file)
        kept = summary.recorded(id=run_id, state="partial", folder=str(folder))
        self.record.update(benchmark=kept)
        ended.details.insert(0, partial_line(summary.requests, folder))

    def _report(self, result: Result, run_id: str, folder: Path) -> None:
        for line in benchmark_lines(result, folder):
            self._console.say(line)
        self.record.update(benchmark=result.recorded(id=run_id, folder=str(folder)))
        try:
            check_valid(result)
        except BenchmarkInvalid as error:
            error.details.append(f"all requests are in {folder}")
            raise


def _any_starts(targets: Sequence[Target]) -> bool:
    """Whether a job has begun whose service is not ready; else what we wait for is the queue."""
    return any(target.started and not target.ready for target in targets)


def _waiting_line(targets: Sequence[Target], began: float) -> str:
    """What is waited for, how it stands, and since when."""
    left = [f"{t.service} ({t.detail})" for t in targets if not t.ready and not t.lost]
    return f"waits for {', '.join(left)}, {waited(began, time.monotonic())} so far"


def _rows(targets: Sequence[Target], began: float) -> Rows:
    elapsed = f"{time.monotonic() - began:.0f} s"
    body = [[t.service, t.job_id, ", ".join(t.addresses) or "-", t.detail] for t in targets]
    return [["service", "job", "address", f"state after {elapsed}"], *body]
