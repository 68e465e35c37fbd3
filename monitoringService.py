"""Prometheus, Grafana and Pushgateway: one job on a CPU node."""

from __future__ import annotations

from hpc.deployment import Deployment


def setup_monitoring(data: Deployment) -> str:
    """Render and submit the monitoring job of `data`. Returns its job id.

    Raises SchedulerError where the scheduler refuses the job.
    """
    key = data.aside("qdrant.key") if data.plan.qdrant else ""
    return data.submit(data.plan.monitoring_job, qdrant_key=key)
