"""A deployment in the making: what the service modules render into and submit to."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.files import PROJECT, write_atomically
from contracts.jobs.ids import cluster_of
from hpc.deployments.records import Record
from hpc.endpoints import OutputDir
from hpc.planning.monitoring import PROGRAMS, MonitoringPlan, images_of_parts
from hpc.planning.parts import JobPlan
from hpc.planning.plan import Plan
from hpc.rendering import render
from hpc.scheduler.interface import Scheduler, Submission
from hpc.scheduler.registry import kind_of
from hpc.site import Site

#: For services that nobody on another host is to reach.
LOOPBACK = "127.0.0.1"


def new_id(name: str) -> str:
    """An id that sorts by time among deployments of one name and is never given twice."""
    return f"{name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Deployment:
    """Plan, place and scheduler of one deployment.

    With no scheduler and no record it is a dry run: scripts are rendered, nothing is submitted.
    """

    id: str
    plan: Plan
    output: OutputDir
    scheduler: Scheduler | None = None
    record: Record | None = None

    def submit(
        self, job: JobPlan, *, depends_on: Sequence[str] = (), later: bool = False, **values: object
    ) -> str:
        """Render templates/<service>.sbatch.j2 with `values`, submit it and write it down.

        `depends_on`: ids of jobs that must have started first; `later`: another job submits it.
        Returns the job's id, "" in a dry run or if it is submitted later. Raises SchedulerError
        when the scheduler refuses.
        """
        submission = Submission(
            name=f"{self.id}.{job.service}",
            service=job.service,
            script=self.output.path / "scripts" / f"{self.id}.{job.service}.sh",
            stdout=str(self.output.log(job.service, "%j", "out")),
            stderr=str(self.output.log(job.service, "%j", "err")),
            time_seconds=self.plan.recipe.time_seconds,
            cluster=self._cluster(),
        )
        kind = kind_of(self.plan.site.scheduler)
        common = common_values(self.id, self.plan.site, self.output, self.plan.monitoring)
        own = {
            "header": kind.header(submission, job.resources, depends_on),
            "parts": self.plan.monitoring.parts_in(job.service),
            "script": submission.script,
            "model": self.plan.model,
            "time_seconds": self.plan.recipe.time_seconds,
            "security": self.plan.security,
            "tls": self.plan.tls,
            "one_database": self.plan.lasting is not None,
            "share": json.dumps(self.plan.share) if self.plan.share else "",
        }
        text = render(f"{job.service}.sbatch.j2", **{**common, **own, **values})
        write_atomically(submission.script, text, mode=0o755)
        if later or self.scheduler is None or self.record is None:
            return ""
        job_id = self.scheduler.submit(submission)
        self.record.add_job(job.service, job_id, name=submission.name)
        # In a cluster set up anew, ids begin again: nothing of ours is older than the script.
        self.output.forget_older(job_id, submission.script.stat().st_mtime_ns)
        return job_id

    def _cluster(self) -> str:
        """The cluster that has taken this deployment's jobs so far, "" when none was named."""
        jobs = self.record.jobs.values() if self.record else ()
        return next(filter(None, map(cluster_of, jobs)), "")

    def write_aside(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file that a job of this deployment reads, next to the scripts."""
        path = self.aside(name)
        write_atomically(path, text, mode=mode)
        return path

    def aside(self, name: str) -> Path:
        """Where `write_aside` puts a file of that name."""
        return self.output.path / "scripts" / f"{self.id}.{name}"


#: Those of lib/ that templates have sourced, beside service.sh.
LIBRARIES = (
    *("haproxy", "door", "watch", "tls", "munge", "chain", "batch", "handover", "storage"),
    *(
        "idle",
        "on_request",
        "notify",
        "seal",
        "loading",
        "replicas",
        "threads",
        "containers",
        "monitoring",
    ),
)


def common_values(
    deployment: str, site: Site, output: OutputDir, monitoring: MonitoringPlan
) -> dict[str, object]:
    """What every template is given."""
    kind = kind_of(site.scheduler)
    loopback = kind.this_machine
    return {
        "output": output.path,
        "library": PROJECT / "lib" / "service.sh",
        **{f"{name}_library": PROJECT / "lib" / f"{name}.sh" for name in LIBRARIES},
        "scheduler_library": kind.library,
        "munge_socket": site.munge_socket or "",
        "runtime": site.runtime,
        "project": PROJECT,
        "tools": PROJECT / ".tools" / "bin",
        "python": sys.executable,
        "deployment": deployment,
        "modules": site.modules,
        "gpu_vendor": site.gpu_vendor,
        "gpu_option": "--rocm" if site.gpu_vendor == "amd" else "--nv",
        "loopback": loopback,
        "bind": LOOPBACK if loopback else "0.0.0.0",
        "interface": site.interface or "",
        "proxy": _proxy_variables(site),
        "monitoring": monitoring.on,
        "one_database": False,
        "programs": PROGRAMS,
        "images": images_of_parts(site),
        "retention_days": monitoring.retention_days,
        "retention_gb": monitoring.retention_gb,
    }


def _proxy_variables(site: Site) -> list[str]:
    named = {"http_proxy": site.proxy.http, "https_proxy": site.proxy.https}
    return [f"{name}={value}" for name, value in named.items() if value]
