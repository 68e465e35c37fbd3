"""Prometheus, Grafana and Pushgateway: one job on a CPU node."""

from __future__ import annotations

from hpc.deployment import Deployment

#: What runs in the job itself; the other parts run beside the services.
PARTS = frozenset({"prometheus", "pushgateway", "grafana", "node_exporter"})


def setup_monitoring(data: Deployment) -> str:
    """Render and submit the monitoring job of `data`. Returns its job id.

    Raises SchedulerError where the scheduler refuses the job.
    """
    return data.submit(data.plan.monitoring_job, parts=sorted(data.plan.monitoring.parts & PARTS))
