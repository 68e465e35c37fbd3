"""From submitted jobs to a finished run: wait, check, ask, benchmark, report.

Works from the record alone, so that --attach does the same as the run that submitted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc.benchmark import ask, check_valid, cut_short, run_benchmark
from hpc.console import Console, Rows
from hpc.endpoints import MONITORING_SERVICES, Ended, OutputDir
from hpc.errors import BenchmarkInvalid, SchedulerError, ServiceError, UsageError
from hpc.jobstates import JobStatus
from hpc.polling import Poller
from hpc.progress import Progress
from hpc.readiness import ModelInfo, probe_client, probe_ollama, probe_url
from hpc.recipe import Recipe, Retrieval, parse_recipe
from hpc.records import Record
from hpc.report import (
    benchmark_lines,
    endpoint_lines,
    partial_line,
    placement_problem,
    precision_problem,
    source_lines,
)
from hpc.scheduler import Scheduler
from hpc.waiting import (
    COMPLETING_PATIENCE_S,
    TOLD_TO_END,
    Target,
    Waiter,
    completing_patience_s,
)

if TYPE_CHECKING:
    from hpc.deploy import Limits


#: The one service that a deployment can do without.
MONITORING = "monitoring"


class JobEnded(ServiceError):
    """A job of the deployment ended, or was requeued, while it was needed."""


class OllamaDied(JobEnded):
    """Ollama ended by itself: what its clients met is the result, which is not valid."""

    exit_code = BenchmarkInvalid.exit_code


class Follower:
    """Follows one deployment to its end result."""

    def __init__(
        self, record: Record, scheduler: Scheduler, output: OutputDir, console: Console
    ) -> None:
        self.record = record
        self.recipe: Recipe = parse_recipe(record.data["recipe"], "the deployment's recipe")
        self.model = str(record.data["model"])
        self._retrieval = self.recipe.job.service.wanted_retrieval
        self._scheduler = scheduler
        self._output = output
        self._console = console
        self._needed = {
            service: job_id
            for service, job_id in record.jobs.items()
            if service != MONITORING or self.recipe.job.monitoring.required
        }
        self._poller = Poller(scheduler, self._needed.values())

    def run(self, limits: Limits) -> None:
        """Wait until all is ready, ingest the recipe's documents, ask its question, run its
        benchmark.

        Raises ServiceError, DeadlineError or BenchmarkInvalid.
        """
        self._wait(limits)
        for line in endpoint_lines(self.record, self._output):
            self._console.say(line)
        if self._retrieval and self._retrieval.documents:
            self._ingest(self._retrieval)
        if self.recipe.job.service.question:
            self._ask(self.recipe.job.service.question)
        if limits.benchmark and self.recipe.total_requests:
            self._benchmark()

    # --- ready ---

    def _wait(self, limits: Limits) -> None:
        jobs, begin = self.record.jobs, time.monotonic()
        if not {"ollama", "client"} <= jobs.keys():
            raise SchedulerError(
                f"{self.record.id} was cut off while its jobs were being submitted; deploy again."
            )
        if self.record.state == "submitting":  # and killed before it could say more
            self.record.update(state="starting", jobs=self.record.data["jobs"])
        targets = [
            Target("ollama", jobs["ollama"], self._probe_ollama),
            Target("client", jobs["client"], lambda at: probe_client(f"http://{at[0]}")),
        ]
        if "qdrant" in jobs:
            targets.append(
                Target("qdrant", jobs["qdrant"], lambda at: probe_url(f"http://{at[0]}/readyz"))
            )
        if MONITORING in jobs:
            targets.append(self._monitoring(jobs[MONITORING]))
        waiter = Waiter(
            targets,
            self._scheduler,
            self._output,
            self._console.tell,
            queue_timeout_s=limits.queue_s,
            start_timeout_s=limits.start_s,
        )
        with self._console.live(lambda: _rows(targets, begin)):
            waiter.wait()
        self._set_ready(targets[0], targets[1], time.monotonic() - begin)

    def _monitoring(self, job_id: str) -> Target:
        return Target(
            MONITORING,
            job_id,
            lambda at: self._probe_monitoring(job_id, f"http://{at[0]}"),
            required=self.recipe.job.monitoring.required,
            published_as="prometheus",
        )

    def _probe_monitoring(self, job_id: str, prometheus: str) -> bool | str:
        parts = set(self.record.data["monitoring"]["parts"]) & set(MONITORING_SERVICES)
        late = sorted(parts - self._output.monitoring_addresses(job_id).keys())
        return f"{', '.join(late)} not started yet" if late else probe_url(f"{prometheus}/-/ready")

    def _probe_ollama(self, addresses: list[str]) -> ModelInfo | str:
        info: ModelInfo | str = ""
        for address in addresses:
            info = probe_ollama(f"http://{address}", self.model)
            if isinstance(info, str):
                break
        return info

    def _set_ready(self, ollama: Target, client: Target, seconds: float) -> None:
        info: ModelInfo = ollama.result
        warnings = self._warnings(info)
        self.record.update(
            state="ready",
            ready_after_seconds=round(seconds, 3),
            warnings=warnings,
            loaded_model=info.as_dict(),
            **self._output.gpus(self.record.jobs["ollama"]),
            **self._where_it_runs(),
            endpoints={
                "client": f"http://{client.addresses[0]}",
                "ollama": [f"http://{address}" for address in ollama.addresses],
                **self._other_endpoints(),
            },
        )
        self._console.tell("orch", f"all is ready: {info.name} ({info.quantization or 'unknown'}) "
                           f"on {info.where}, Ollama {info.ollama_version}")  # fmt: skip
        for warning in warnings:
            self._console.tell("WARNING", warning)

    def _other_endpoints(self) -> dict[str, str]:
        """Qdrant's, and those of the monitoring that are there by now."""
        jobs = self.record.jobs
        found: dict[str, str] = {}
        if MONITORING in jobs:
            found |= self._output.monitoring_addresses(jobs[MONITORING])
        if "qdrant" in jobs:
            found["qdrant"] = self._output.addresses("qdrant", jobs["qdrant"])[0]
        return {service: f"http://{address}" for service, address in found.items()}

    def _where_it_runs(self) -> dict[str, dict[str, Any]]:
        """Node and image of each service; without containers there are no images."""
        jobs, output = self.record.jobs, self._output
        images = {service: output.image(job) for service, job in jobs.items()}
        return {
            "nodes": {service: output.host(job) for service, job in jobs.items()},
            "images": {service: image for service, image in images.items() if image},
        }

    def _warnings(self, info: ModelInfo) -> list[str]:
        service = self.recipe.job.service
        placement = placement_problem(int(self.record.data["gpus"]), info)
        precision = precision_problem(self.recipe, info)
        for problem, fatal in (
            (placement, not service.allow_cpu),
            (precision, service.require_precision),
        ):
            if problem and fatal:
                tail = self._output.log_tail("ollama", self.record.jobs["ollama"], 5)
                raise ServiceError(f"{problem}.", tail)
        return [problem for problem in (placement, precision) if problem]

    # --- use ---

    def _ingest(self, retrieval: Retrieval) -> None:
        from hpc.ingest import ingest_paths, record_of  # most deployments have no documents

        paths = [Path(document) for document in retrieval.documents]
        url = self.record.data["endpoints"]["client"]
        try:
            progress = ingest_paths(url, paths, retrieval, self._console)
        except UsageError as error:  # they were there when the recipe was read
            raise ServiceError(error.message) from error
        self.record.update(ingest=record_of(progress))

    def _ask(self, question: str) -> None:
        url, retrieval = self.record.data["endpoints"]["client"], self._retrieval is not None
        answer = ask(url, question, self.model, retrieval)
        text = str(answer.get("response", "")).strip()
        self._console.say(f"question: {question}")
        self._console.say(f"answer:   {text}   ({answer.get('request_time', 0):.2f} s)")
        for line in source_lines(answer):
            self._console.say(line)

    def _benchmark(self) -> None:
        run_id = f"{self.record.id}-1"
        folder = self._output.path / "benchmarks" / run_id
        self.record.update(benchmark={"id": run_id, "state": "running", "folder": str(folder)})
        service = self.recipe.job.service
        self._console.tell(
            "orch",
            f"benchmark: {service.n_clients} clients x {service.n_requests_per_client} requests",
        )
        try:
            self._measure(run_id, folder)
        except JobEnded as ended:
            self._keep_partial(ended, run_id, folder)
            raise

    def _measure(self, run_id: str, folder: Path) -> None:
        progress = Progress(self._tell_progress)
        try:
            with self._console.live(progress.rows):
                result = run_benchmark(
                    self.record.data["endpoints"]["client"],
                    run_id,
                    self.recipe,
                    self.model,
                    self._check_jobs,
                    progress.take,
                )
            self._report(result, run_id, folder)
        except JobEnded:
            raise
        except (ServiceError, BenchmarkInvalid):
            self._blame_jobs()
            raise

    def _tell_progress(self, line: str) -> None:
        """In a log; on a terminal the table shows it."""
        if not self._console.interactive:
            self._console.tell("orch", f"benchmark: {line}")

    def _keep_partial(self, ended: JobEnded, run_id: str, folder: Path) -> None:
        """What was measured up to a job's end is noted, as partial."""
        if self.record.data["benchmark"]["state"] != "running":
            return  # the run came to its end, and was reported
        summary = cut_short(self.record.data["endpoints"]["client"], run_id, folder) or {}
        summary.pop("provenance", None)
        facts = {"id": run_id, "state": "partial", "folder": str(folder)}
        self.record.update(benchmark={**summary, **facts})
        ended.details.insert(0, partial_line(summary.get("requests"), folder))

    def _report(self, result: dict[str, Any], run_id: str, folder: Path) -> None:
        for line in benchmark_lines(result, folder):
            self._console.say(line)
        main = {key: value for key, value in result.items() if key not in ("results", "provenance")}
        self.record.update(benchmark={**main, "id": run_id, "folder": str(folder)})
        try:
            check_valid(result)
        except BenchmarkInvalid as error:
            error.details.append(f"all requests are in {folder}")
            raise

    def _check_jobs(self) -> None:
        """Raise JobEnded where a job has ended or was requeued: by its own file, at times by the
        scheduler."""
        asked = self._poller.step() and self._poller.error is None
        for service, job_id in self._needed.items():
            ended = self._output.ended(job_id)
            status = self._poller.status(job_id)
            if ended is not None:
                settled = self._poller.settled(job_id, completing_patience_s(ended))
                self._fail_run(service, job_id, settled or status)
            elif asked and (status.over or status.in_queue):
                self._fail_run(service, job_id, status)

    def _blame_jobs(self) -> None:
        """The run has failed. Raise JobEnded where the cause is a job that is no more."""
        for service, job_id in self._needed.items():
            status = self._poller.settled(job_id, COMPLETING_PATIENCE_S)
            if status is not None and (status.over or status.in_queue):
                self._fail_run(service, job_id, status)

    def _fail_run(self, service: str, job_id: str, status: JobStatus) -> None:
        if status.in_queue:
            raise JobEnded(
                f"the {service} job {job_id} was requeued during the run (now {status.state}): it "
                "was preempted, its node failed, or somebody did it; deploy again."
            )
        ended = self._output.ended(job_id)
        by = self._scheduler.cancelled_by(job_id) if status.state == "CANCELLED" else ""
        # Slurm knows more of the other states than the script does.
        own = ended.reason if ended and _plain(status) else ""
        why = f"was cancelled by {by}" if by else own or status.words
        state = f" [{status.state}]" if status.over else ""
        raise (OllamaDied if service == "ollama" and _died(ended, status) else JobEnded)(
            f"the {service} job {job_id}{state} ended during the run: {why}.",
            self._output.log_tail(service, job_id),
        )


def _plain(status: JobStatus) -> bool:
    """Whether Slurm says no more of the job's end than that it came."""
    return not status.over or status.state in ("FAILED", "COMPLETED", "CANCELLED")


def _died(ended: Ended | None, status: JobStatus) -> bool:
    """Whether a job's service ended by itself, rather than by anybody's or Slurm's will."""
    told = ended is None or ended.exit_code in (0, *TOLD_TO_END)
    return not told and _plain(status) and status.state != "CANCELLED"


def _rows(targets: list[Target], begin: float) -> Rows:
    elapsed = f"{time.monotonic() - begin:.0f} s"
    body = [[t.service, t.job_id, ", ".join(t.addresses) or "-", t.detail] for t in targets]
    return [["service", "job", "address", f"state after {elapsed}"], *body]
