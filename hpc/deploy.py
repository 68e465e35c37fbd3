"""Deploying: check everything, submit all jobs at once, then follow them."""

from __future__ import annotations

import time
from pathlib import Path

import clientServiceHandler
import ollamaService
from hpc.console import Console, columns
from hpc.control import clear_dead_files, stop
from hpc.deployment import Deployment
from hpc.endpoints import OutputDir
from hpc.errors import BenchmarkInvalid, Detached, Interrupted, OrchError
from hpc.follow import Follower, Limits
from hpc.plan import Partition, Plan, make_plan
from hpc.recipe import Recipe, load_recipe
from hpc.records import Record, create_record, new_id
from hpc.scheduler import Scheduler, open_scheduler
from hpc.signals import held
from hpc.site import Site, load_site


def plan_of(recipe_path: Path, site_name: str | None, output: OutputDir) -> tuple[Plan, Scheduler]:
    """The plan for a recipe at a site, and the site's scheduler. Submits nothing.

    Raises UsageError for a wrong recipe or site, SchedulerError where the site's scheduler is not
    to be had here.
    """
    recipe, site = load_recipe(recipe_path), load_site(site_name)
    scheduler = open_scheduler(site, output.path)
    return make_plan(recipe, site, _partitions(recipe, site, scheduler)), scheduler


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
    console.say(
        f"nothing was submitted; the scripts are {output.path}/scripts/{deployment.id}.*.sh"
    )


def submit(deployment: Deployment) -> None:
    """Render and submit all jobs. Raises SchedulerError where one is refused."""
    ollamaService.setup_ollama(deployment)
    clientServiceHandler.setup_client_service(deployment)


def begin(plan: Plan, scheduler: Scheduler, output: OutputDir, console: Console) -> Record:
    """Write the record and submit. Where a job is refused, those before it are cancelled."""
    deployment_id = new_id(plan.recipe.job.name)
    record = create_record(
        output.path,
        deployment_id,
        {
            "recipe": plan.recipe.model_dump(mode="json", by_alias=True),
            "site": plan.site.model_dump(mode="json", by_alias=True),
            "model": plan.model,
            "gpus": plan.gpus,
            "settings": {setting.name: setting.value for setting in plan.settings},
        },
    )
    deployment = Deployment(deployment_id, plan, output, scheduler, record)
    try:
        with held():
            submit(deployment)
        record.update(state="starting")
    except OrchError as error:
        with held():
            _end(record, scheduler, output, console, error)
        raise
    for service, job_id in record.jobs.items():
        console.tell(service, f"job {job_id} is submitted")
    return record


def follow(
    record: Record,
    scheduler: Scheduler,
    output: OutputDir,
    console: Console,
    limits: Limits,
    keep_on_failure: bool,
) -> None:
    """Follow a submitted deployment to its end result; where it fails, cancel its jobs.

    A benchmark that is not valid, and a lost terminal, leave the deployment as it is.
    """
    try:
        _sweep(scheduler, output, console, record)
        Follower(record, scheduler, output, console).run(limits)
    except (BenchmarkInvalid, Detached):
        raise
    except OrchError as error:
        with held():
            if keep_on_failure and not isinstance(error, Interrupted):
                record.update(error=error.message)
                console.tell("orch", f"{record.id} is kept, as --keep-on-failure asks")
            else:
                _end(record, scheduler, output, console, error)
        raise


def _sweep(scheduler: Scheduler, output: OutputDir, console: Console, record: Record) -> None:
    local = record.data["site"]["scheduler"] == "local"
    dead = clear_dead_files(output, scheduler, local, set(record.jobs.values()))
    if dead:
        console.tell("orch", f"removed the address files of dead jobs: {', '.join(dead)}")


def _end(
    record: Record, scheduler: Scheduler, output: OutputDir, console: Console, error: OrchError
) -> None:
    """Cancel what was submitted, and write down why."""
    interrupted = isinstance(error, Interrupted)
    if record.jobs:
        console.tell(
            "orch", f"cancelling {', '.join(f'{s} job {j}' for s, j in record.jobs.items())}"
        )
    try:
        stop(record, scheduler, output, state="stopped" if interrupted else "failed")
    except OrchError as second:
        console.error(f"{second.message} Then: python3 orch.py --stop {record.id}")
    record.update(error=error.message, ended=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
