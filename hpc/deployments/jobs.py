"""The jobs of recorded deployments, and the scheduler that was given them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from contracts.jobs.states import JobStatus
from hpc.deployments.records import Record
from hpc.endpoints import OutputDir
from hpc.scheduler.interface import Known, Scheduler
from hpc.scheduler.registry import kind_of


def scheduler_of(records: Sequence[Record], output: OutputDir) -> Scheduler:
    """The scheduler that deployments were submitted to, all of them to the same."""
    from hpc.recipe.words import validate
    from hpc.site import Site  # slow to import, and most deployments have ended

    first = records[0]
    site = validate(Site, first.site, "the deployment's site profile")
    names = {job_id: name for record in records for job_id, name in record.names.items() if name}
    known = Known(names, first.clusters, first.controller)
    return kind_of(site.scheduler).open(output.path, known)


def adopt(records: Iterable[Record], jobs: Mapping[str, JobStatus]) -> None:
    """Add to each record in memory the jobs of its names that were not written down.

    A run that is killed, or whose controller hangs, may leave a job that Slurm has taken.
    """
    for record in records:
        known = set(record.jobs.values())
        for job_id, status in jobs.items():
            deployment, _, service = status.name.rpartition(".")
            if deployment == record.id and job_id not in known and not status.over:
                record.adopt_job(service, job_id, status.name)
