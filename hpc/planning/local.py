"""What jobs on this machine ask for: next to nothing."""

from __future__ import annotations

from engines.servers.deployable import DEPLOYED
from hpc.planning.parts import Given, JobPlan, MakeJob, planned_gpus
from hpc.scheduler.resources import Resources


def local_engine(given: Given) -> tuple[JobPlan, int]:
    """The engine's job, and how many GPUs it must sit on."""
    infra, notes = given.recipe.job.infrastructure, given.notes
    for name in ("partition", "client_partition", "account", "qos", "cpus", "mem_gb"):
        if getattr(infra, name) is not None:
            notes.add(name, getattr(infra, name), "recipe; without meaning on this site")
    gpus = planned_gpus(given, (0, "this site does not ask for GPUs"))
    return JobPlan(
        DEPLOYED[given.recipe.job.service.engine].service, Resources(infra.time, infra.nodes)
    ), gpus


def local_cpu_jobs(given: Given) -> MakeJob:
    """Makes the jobs that need no GPU, whatever they would take elsewhere."""
    time = given.recipe.job.infrastructure.time
    return lambda service, _cores, _mem_gb: JobPlan(service, Resources(time))
