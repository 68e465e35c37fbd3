"""What comes before the jobs of a deployment are submitted: the plan, and its record."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import UsageError
from contracts.json_object import JsonObject
from hpc.console import Console, columns
from hpc.deployment import Deployment, new_id
from hpc.deployments.chain import works
from hpc.deployments.jobs import scheduler_of
from hpc.deployments.records import Record, create_record, load_records
from hpc.deployments.refreshing import refresh
from hpc.deployments.stopping import stop
from hpc.endpoints import OutputDir
from hpc.images import check_bindable
from hpc.planning.chain import asks_for_chain
from hpc.planning.fitting import require_fit, with_fit
from hpc.planning.origins import origins_of
from hpc.planning.plan import Plan, make_plan
from hpc.planning.weights import weights_of
from hpc.recipe.batch import BatchFiles, folders_of
from hpc.recipe.reading import load_recipe
from hpc.recipe.schema import Recipe
from hpc.scheduler.interface import Exported, Known, Partition, Scheduler
from hpc.scheduler.kind import Kind
from hpc.scheduler.registry import kind_of
from hpc.service import Service
from hpc.site import Site, load_site

if TYPE_CHECKING:
    from hpc.deployments.facts import Facts


def plan_of(
    recipe_path: Path,
    site_name: str | None,
    output: OutputDir,
    monitoring: bool,
    to_fit: bool = True,
    batch: BatchFiles | None = None,
) -> tuple[Plan, Scheduler]:
    """The plan for a recipe at a site, and the site's scheduler. Submits nothing. Where not
    `to_fit`, a recipe may require what does not fit, and name a file that is not here. `batch`:
    what is worked off.

    Raises UsageError for a wrong recipe or site, SchedulerError if the site's scheduler is not
    to be had here.
    """
    site = load_site(site_name)
    recipe = load_recipe(recipe_path, site.store, batch)
    return plan_at(recipe, site, output, monitoring, to_fit)


def plan_at(
    recipe: Recipe, site: Site, output: OutputDir, monitoring: bool, to_fit: bool = True
) -> tuple[Plan, Scheduler]:
    """The same for a recipe and a site that have been read."""
    origins = origins_of(recipe, output.models, site.store)
    asks = recipe.job.service.batch
    if site.runtime != "host":
        check_bindable(output.path)
        for file in (file for origin in origins for file in origin.files):
            check_bindable(file.parent)
        for folder in folders_of(asks) if asks else ():
            check_bindable(folder)
    weights = weights_of(recipe, output.models, site.store, to_fit)
    kind = kind_of(site.scheduler)
    asked = kind.exported()
    scheduler = kind.open(output.path, Known({}, _clusters(site, kind, asked), None))
    partitions = _partitions(recipe, site, scheduler)
    plan = make_plan(recipe, site, partitions, monitoring, asked, weights, origins)
    plan = with_fit(plan)
    if to_fit:
        require_fit(plan)
    return plan, scheduler


def batch_of(given: Namespace) -> BatchFiles | None:
    """What --batch names, to be worked off by a recipe's deployment; None if it is not given."""
    return None if given.batch is None else BatchFiles(given.batch, given.out)


def _clusters(site: Site, kind: Kind, asked: Exported) -> str:
    """The clusters that jobs are given to, "" if nobody names one."""
    variable = asked.chosen.get("clusters")
    named = kind.options_in(site.directives).get("clusters")
    return named or (str(variable.value) if variable else "")


def _partitions(recipe: Recipe, site: Site, scheduler: Scheduler) -> list[Partition]:
    """What the scheduler knows of its partitions, asked only if recipe and site do not say which,
    or if it is to be known how long a job may be."""
    said = site.gpu_partitions or site.cpu_partitions
    asks = asks_for_chain(recipe.job.infrastructure)
    return [] if said and not asks else list(scheduler.partitions())


def dry_run(plan: Plan, services: Sequence[Service], output: OutputDir, console: Console) -> None:
    """Render everything and print the plan; nothing is submitted."""
    deployment = render_all(plan, services, output)
    rows = [["setting", "value", "from"]]
    rows += [[s.name, "-" if s.value is None else str(s.value), s.source] for s in plan.settings]
    for line in columns(rows):
        console.say(line)
    for source, words in plan.remarks:
        console.tell(source, words)
    console.say(
        f"nothing was submitted; the scripts are {output.path}/scripts/{deployment.id}.*.sh"
    )


def render_all(plan: Plan, services: Sequence[Service], output: OutputDir) -> Deployment:
    """Write the scripts of all jobs, and submit none."""
    deployment = Deployment(new_id(plan.recipe.job.name), plan, output)
    for service in services:
        service.set_up(deployment)
    return deployment


def begin(plan: Plan, output: OutputDir) -> Record:
    """Write the record of a new deployment, before anything is submitted."""
    facts: Facts = {
        "recipe": _as_recorded(plan),
        "site": plan.site.model_dump(mode="json", by_alias=True),
        "model": plan.model,
        "embedding_model": plan.embedding_model,
        "gpus": plan.gpus,
        "monitoring": {
            "parts": sorted(plan.monitoring.parts),
            "missing": list(plan.monitoring.missing),
        },
        "settings": {setting.name: setting.value for setting in plan.settings},
        "controller": kind_of(plan.site.scheduler).controller(),
    }
    if batch := plan.recipe.job.service.batch:
        out = str(batch.output)
        facts["batch"] = {
            "input": batch.input, "output": out, "job": 1, "max_jobs": batch.max_jobs
        }  # fmt: skip
    if lasting := plan.lasting:
        facts["chain"] = {
            "job": 1,
            "max_jobs": lasting.max_jobs,
            "until": lasting.until,
            "lasts_s": lasting.lasts_s,
        }
    return create_record(output.path, new_id(plan.recipe.job.name), facts)


def _as_recorded(plan: Plan) -> JsonObject:
    return plan.recipe.model_dump(mode="json", by_alias=True)


def at_work(plan: Plan, output: OutputDir, console: Console) -> Record | None:
    """The deployment that works the plan's batch off already; None if there is none. One whose job
    has been killed, so that nobody works any more, is stopped.

    Raises UsageError if it is another recipe's, whose answers are not to be mixed with ours.
    """
    batch = plan.recipe.job.service.batch
    wanted = batch.output if batch else None
    records = load_records(output.path) if batch else []
    ours = [r for r in records if r.live and r.batch and r.batch["output"] == wanted]
    refresh(ours, output)
    for record in (one for one in ours if one.live):
        if works(record, output):
            if record.recipe != _as_recorded(plan):
                raise UsageError(
                    f"{record.id} works on {wanted} already, by another recipe; wait for its end, "
                    "stop it, or choose another output."
                )
            console.tell("orch", f"{record.id} works on it already, and is taken up")
            return record
        stop(record, scheduler_of([record], output), output, "failed")
        console.tell("orch", f"{record.id} is stopped: its job was lost, and nobody worked")
    return None
