"""Which parts of the monitoring a deployment gets, and which cannot be had, said before anything
is submitted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.errors import UsageError
from hpc.images import Image, image_of
from hpc.recipe.sections import Monitoring
from hpc.scheduler.registry import kind_of
from hpc.site import Site

#: The parts, with the names of their programs: their authors' own, Debian's.
PROGRAMS: Mapping[str, Sequence[str]] = {
    "prometheus": ("prometheus",),
    "pushgateway": ("pushgateway", "prometheus-pushgateway"),
    "grafana": ("grafana", "grafana-server"),
    "node_exporter": ("node_exporter", "prometheus-node-exporter"),
    "dcgm_exporter": ("dcgm-exporter",),
}
#: By service; those of engines are the same for all.
_IN_ENGINES = frozenset({"dcgm_exporter"})
_PARTS_IN = {
    "monitoring": frozenset({"prometheus", "pushgateway", "grafana"}),
    **dict.fromkeys(("client", "qdrant"), frozenset[str]()),
}
#: What is missed without a part: of DCGM's exporter nothing: NVIDIA's driver is asked instead.
_WITHOUT = {
    "prometheus": "nothing is measured beside the benchmark",
    "pushgateway": "the figures of benchmarks do not reach Prometheus",
    "grafana": "there are no dashboards; Prometheus has a page of its own",
    "node_exporter": "CPU and memory of the nodes are not measured",
}


@dataclass(frozen=True)
class MonitoringPlan:
    """What runs beside the services: `parts` of PROGRAMS; `missing` has a sentence for each of the
    others. Without "prometheus" there is no monitoring at all. `one_host`: all jobs run there."""

    parts: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    one_host: bool = False
    retention_days: int = 15
    retention_gb: int = 2

    @property
    def on(self) -> bool:
        """Whether anything of it is started."""
        return "prometheus" in self.parts

    def targets(self, nodes: int, gpus: int, qdrant: bool = False, per_node: int = 1) -> int:
        """How many targets Prometheus has of a deployment with `nodes` nodes, each with `per_node`
        replicas of an engine and `gpus` GPUs that are watched, and perhaps a job of Qdrant's."""
        if not self.on:
            return 0
        jobs = [("engine", nodes), ("client", 1), ("monitoring", 1), ("qdrant", int(qdrant))]
        node_exporters = sum(n for job, n in jobs if "node_exporter" in self.parts_in(job))
        exporters = nodes * per_node + (nodes if gpus else 0)
        return node_exporters + exporters + 2 + qdrant + ("pushgateway" in self.parts)

    def parts_in(self, job: str) -> list[str]:
        """What runs in the job of a service: its own parts, and the node exporter. Of that there is
        one on each node; if all jobs are on one host, beside the client."""
        own = _PARTS_IN.get(job, _IN_ENGINES)
        there = job == "client" or not self.one_host
        return sorted(self.parts & (own | ({"node_exporter"} if there else set())))


OFF = MonitoringPlan()


def plan_monitoring(asked: Monitoring, site: Site, wanted: bool) -> MonitoringPlan:
    """What of the monitoring can be had at `site`; nothing if it is not `wanted`.

    Raises UsageError if the recipe requires a part that cannot be had.
    """
    if not (wanted and asked.enabled):
        return OFF
    problems = {part: problem for part in PROGRAMS if (problem := _problem(part, site))}
    missing = tuple(
        f"{why}: {_WITHOUT[part]}" for part, why in problems.items() if part in _WITHOUT
    )
    if missing and asked.required:
        raise UsageError("the recipe requires the monitoring (monitoring.required)", list(missing))
    parts = frozenset(PROGRAMS) - problems.keys()
    if "prometheus" not in parts:
        missing, parts = missing[:1], frozenset()
    one_host = kind_of(site.scheduler).this_machine
    return MonitoringPlan(parts, missing, one_host, asked.retention_days, asked.retention_gb)


def _problem(part: str, site: Site) -> str:
    """Why a part cannot be had, "" if nothing speaks against it. Modules that a site loads may
    bring any program, and a registry any image: that is seen when they are fetched."""
    if part == "dcgm_exporter" and site.gpu_vendor != "nvidia":
        return f"the site's GPUs are not NVIDIA's (gpu_vendor: {site.gpu_vendor})"
    if site.runtime == "host":
        found = site.modules or any(map(shutil.which, PROGRAMS[part]))
        return "" if found else f"there is no {' or '.join(PROGRAMS[part])} on PATH"
    source = getattr(site.images, part)
    if source is None:
        return f"the site profile names no image for it (images.{part})"
    if source.endswith(".sif") and not os.access(source, os.R_OK):
        return f"the image {source} (images.{part}) cannot be read"
    return ""


def images_of_parts(site: Site) -> dict[str, Image]:
    """The images of the parts, by part."""
    sources = {part: getattr(site.images, part) for part in PROGRAMS}
    return {part: image_of(source) for part, source in sources.items() if source is not None}
