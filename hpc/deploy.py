"""Deploying: check everything, submit all jobs at once, then follow them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import clientServiceHandler
import monitoringService
import ollamaService
import qdrantService
from hpc.console import Console, columns
from hpc.deployment import Deployment
from hpc.endpoints import OutputDir
from hpc.errors import BenchmarkInvalid, Detached, Interrupted, OrchError
from hpc.images import check_bindable
from hpc.plan import Partition, Plan, make_plan
from hpc.recipe import Recipe, is_model_path, load_recipe, models_of
from hpc.records import Record, create_record, new_id
from hpc.scheduler import Scheduler, open_scheduler
from hpc.signals import held
from hpc.site import Site, load_site


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds, and what to leave out."""

    queue_s: float
    start_s: float
    benchmark: bool = True


def plan_of(
    recipe_path: Path, site_name: str | None, output: OutputDir, monitoring: bool
) -> tuple[Plan, Scheduler]:
    """The plan for a recipe at a site, and the site's scheduler. Submits nothing.

    Raises UsageError for a wrong recipe or site, SchedulerError where the site's scheduler is not
    to be had here.
    """
    recipe, site = load_recipe(recipe_path), load_site(site_name)
    if site.runtime != "host":
        check_bindable(output.path)
        for model in models_of(recipe):
            if is_model_path(model):
                check_bindable(Path(model).parent)
    scheduler = open_scheduler(site, output.path)
    return make_plan(recipe, site, _partitions(recipe, site, scheduler), monitoring), scheduler


def _partitions(recipe: Recipe, site: Site, scheduler: Scheduler) -> list[Partition]:
    """What the scheduler knows of its partitions, asked only where recipe and site do not say."""
    said = site.gpu_partitions or site.cpu_partitions
    return [] if said else list(scheduler.partitions())


def dry_run(plan: Plan, output: OutputDir, console: Console) -> None:
    """Render everything and print the plan; nothing is submitted."""
    deployment = Deployment(new_id(plan.recipe.job.name), plan, output)
    submit(deployment)
    rows = [["setting", "value", "from"]]
    rows += [[s.name, "-" if s.value is None else str(s.value), s.source] for s in plan.settings]
    for line in columns(rows):
        console.say(line)
    tell_missing(plan, console)
    console.say(
        f"nothing was submitted; the scripts are {output.path}/scripts/{deployment.id}.*.sh"
    )


def prepare_all(plan: Plan, output: OutputDir, console: Console) -> None:
    """Fetch images and model on this machine; nothing is submitted. Raises ServiceError."""
    from hpc.prepare import prepare

    deployment = Deployment(new_id(plan.recipe.job.name), plan, output)
    submit(deployment)
    tell_missing(plan, console)
    wanted = {"ollama": True, "qdrant": plan.qdrant, "monitoring": plan.monitoring.on}
    prepare(deployment, [name for name, there in wanted.items() if there] + ["client"], console)
    console.tell("orch", "all is prepared; nothing was submitted")


def tell_missing(plan: Plan, console: Console) -> None:
    """Name the parts of the monitoring that cannot be had."""
    for problem in plan.monitoring.missing:
        console.tell("WARNING", f"monitoring: {problem}")


def submit(deployment: Deployment) -> None:
    """Render and submit all jobs. Raises SchedulerError where one is refused."""
    ollamaService.setup_ollama(deployment)
    qdrantService.setup_qdrant(deployment)
    if deployment.plan.monitoring.on:
        monitoringService.setup_monitoring(deployment)
    clientServiceHandler.setup_client_service(deployment)


def begin(plan: Plan, output: OutputDir) -> Record:
    """Write the record of a new deployment, before anything is submitted."""
    return create_record(
        output.path,
        new_id(plan.recipe.job.name),
        {
            "recipe": plan.recipe.model_dump(mode="json", by_alias=True),
            "site": plan.site.model_dump(mode="json", by_alias=True),
            "model": plan.model,
            "embedding_model": plan.embedding_model,
            "gpus": plan.gpus,
            "monitoring": {
                "parts": sorted(plan.monitoring.parts),
                "missing": list(plan.monitoring.missing),
            },
            "settings": {setting.name: setting.value for setting in plan.settings},
        },
    )


class Run:
    """One run of orch.py on one deployment. Used as a context: where it fails, jobs are cancelled.

    A benchmark that is not valid, and a lost terminal, leave the deployment as it is.
    """

    def __init__(
        self,
        record: Record,
        scheduler: Scheduler,
        output: OutputDir,
        console: Console,
        keep_on_failure: bool,
    ) -> None:
        self._record = record
        self._scheduler = scheduler
        self._output = output
        self._console = console
        self._keep = keep_on_failure

    def __enter__(self) -> Run:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, (BenchmarkInvalid, Detached)):
            return
        with held():
            if self._keep and not isinstance(error, Interrupted):
                self._record.update(error=str(error))
                self._console.tell("orch", f"{self._record.id} is kept, as --keep-on-failure asks")
            else:
                self._cancel(error)

    def submit(self, plan: Plan) -> None:
        """Submit all jobs. No signal comes between a job and its being written down."""
        tell_missing(plan, self._console)
        with held():
            submit(Deployment(self._record.id, plan, self._output, self._scheduler, self._record))
            self._record.update(state="starting")
        for service, job_id in self._record.jobs.items():
            self._console.tell(service, f"job {job_id} is submitted")

    def follow(self, limits: Limits) -> None:
        """Wait, check, ask and measure."""
        # Only now, with the jobs on their way: loading what follows takes a while.
        from hpc.follow import Follower

        self._sweep()
        Follower(self._record, self._scheduler, self._output, self._console).run(limits)

    def _sweep(self) -> None:
        """Clear what dead jobs left in the output directory."""
        from hpc.control import clear_dead_files

        local = self._record.data["site"]["scheduler"] == "local"
        ours = set(self._record.jobs.values())
        dead = clear_dead_files(self._output, self._scheduler, local, ours)
        if dead:
            self._console.tell("orch", f"removed what dead jobs left: {', '.join(dead)}")

    def _cancel(self, error: BaseException) -> None:
        """Cancel what was submitted, and write down why."""
        from hpc.control import stop

        jobs = [f"{service} job {job_id}" for service, job_id in self._record.jobs.items()]
        if jobs:
            self._console.tell("orch", f"cancelling {', '.join(jobs)}")
        state = "stopped" if isinstance(error, Interrupted) else "failed"
        try:
            stop(self._record, self._scheduler, self._output, state)
        except OrchError as second:
            remedy = self._output.command("--stop", self._record.id)
            self._console.error(f"{second.message} then: {remedy}")
        ended = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._record.update(error=str(error), ended=ended)
