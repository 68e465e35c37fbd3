"""Prometheus, Grafana and Pushgateway: one job on a CPU node."""

from __future__ import annotations

from contracts.job_files import MONITORING_USER, monitoring_login
from contracts.jobs.ids import number_of
from hpc.deployment import Deployment
from hpc.endpoints import MONITORING_SERVICES
from hpc.following.target import Target
from hpc.service import Launched, Ready, Service


def setup_monitoring(data: Deployment) -> str:
    """Render and submit the monitoring job of `data`. Returns its job id, "" when the plan has no
    monitoring.

    Raises SchedulerError if the scheduler refuses the job.
    """
    if not data.plan.monitoring.on:
        return ""
    key = data.aside("qdrant.key") if data.plan.qdrant else ""
    return data.submit(data.plan.monitoring_job, qdrant_key=key)


def _target(launched: Launched) -> Target:
    """Prometheus answers, and the other parts that were planned have published their addresses."""
    from hpc.web import probe_url  # once the jobs are on their way: loading it takes a while

    job_id = launched.record.jobs["monitoring"]
    login = monitoring_login(launched.output.path)
    planned = set(launched.record.monitoring_parts) & set(MONITORING_SERVICES)

    def probe(addresses: list[str]) -> bool | str:
        late = sorted(planned - launched.output.monitoring_addresses(job_id).keys())
        if late:
            return f"{', '.join(late)} not started yet"
        return probe_url(f"http://{addresses[0]}/-/ready", login.header)

    required = launched.recipe.job.monitoring.required
    return Target("monitoring", job_id, probe, required, published_as="prometheus")


def _ready(launched: Launched, target: Target) -> Ready:
    """Also the parts that are there when the whole is not."""
    there = launched.output.monitoring_addresses(target.job_id)
    return Ready({name: f"http://{address}" for name, address in there.items()})


def _notes(launched: Launched) -> dict[str, str]:
    number = number_of(launched.record.jobs["monitoring"])
    password = launched.output.path / "grafana_data" / number / "password"
    words = {"grafana": f"user admin, password in {password}"}
    if launched.record.asks_for_tokens:
        login = monitoring_login(launched.output.path)
        words["prometheus"] = f"user {MONITORING_USER}, password in {login.password}"
    return words


SERVICE = Service(
    "monitoring",
    setup_monitoring,
    _target,
    _ready,
    wanted=lambda plan: plan.monitoring.on,
    notes=_notes,
)
