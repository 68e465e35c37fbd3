#!/usr/bin/env python3
"""Bring up an LLM inference and benchmarking service from one JSON recipe: see --help.

This is the story of a deployment. The other commands are in hpc/commands/.
"""

from typing import TYPE_CHECKING

from hpc.start import start  # like this file, it parses and runs on Python 3.6

if TYPE_CHECKING:
    from argparse import Namespace

    from hpc.console import Console
    from hpc.deployments.records import Record
    from hpc.endpoints import OutputDir
    from hpc.planning.plan import Plan
    from hpc.scheduler.interface import Scheduler
    from hpc.service import Service


def deploy(given: "Namespace", output: "OutputDir", console: "Console") -> None:
    """Read recipe and site, plan, submit a job for each service, and go on with `use`."""
    from hpc.commands.deploy import at_work, batch_of, begin, dry_run, plan_of

    monitoring = not given.no_monitoring
    plan, scheduler = plan_of(given.recipe, given.site, output, monitoring, batch=batch_of(given))
    output.prepare()
    if given.dry_run:
        dry_run(plan, services(), output, console)
    elif given.prepare:
        from hpc.commands.prepare import prepare

        prepare(plan, services(), output, console)
    else:
        record = at_work(plan, output, console)
        if record is None:
            use(given, output, console, begin(plan, output), scheduler, plan)
        else:
            use(given, output, console, record, scheduler)


def attach(given: "Namespace", output: "OutputDir", console: "Console") -> None:
    """Go on with a deployment whose jobs were submitted before."""
    from hpc.deployments.jobs import scheduler_of
    from hpc.deployments.refreshing import live_record

    record = live_record(given.attach, output)
    use(given, output, console, record, scheduler_of([record], output))


def use(
    given: "Namespace",
    output: "OutputDir",
    console: "Console",
    record: "Record",
    scheduler: "Scheduler",
    plan: "Plan | None" = None,
) -> None:
    """Submit what is planned, wait until all of it is ready, ask, work off, and measure."""
    from hpc.following.run import Run

    with Run(record, scheduler, output, console, given) as run:
        if plan is not None:
            run.submit(plan, services())
        if not given.detach:
            deployment = run.follower(services())
            deployment.wait(given.queue_timeout, given.start_timeout)
            deployment.ingest_documents()
            deployment.ask_question()
            deployment.work_off()
            if not given.no_benchmark:
                deployment.benchmark()


def services() -> "list[Service]":
    """All services, in the order of their jobs: the client's depends on those before it."""
    import clientServiceHandler
    import engineService
    import monitoringService
    import ollamaService
    import qdrantService

    others = (qdrantService, monitoringService, clientServiceHandler)
    engines = [ollamaService.SERVICE, *engineService.services({ollamaService.SERVICE.name})]
    return [*engines, *(room.SERVICE for room in others)]


STORY = {"recipe": deploy, "attach": attach}

if __name__ == "__main__":
    start(STORY)
