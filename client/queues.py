"""What /metrics shows of the door's queues, as HAProxy has them now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from client.door import statistics

#: The backends of lib/door.cfg in front of which requests wait their turn; the first is of the
#: engines' own APIs.
ENGINES = "engines"
QUEUES = (ENGINES, "queries", "benchmarks", "control")


class Queues(Collector):
    """Asks HAProxy, at its socket; nothing is shown while it does not answer."""

    def __init__(self, commands: Path) -> None:
        self._commands = commands

    def collect(self) -> Iterator[Metric]:
        """Yield how many wait, and how many replicas HAProxy gives requests to."""
        try:
            rows = statistics(self._commands)
        except OSError:
            return
        waiting = dict.fromkeys(QUEUES, 0)
        for row in rows:
            # A server's own queue is not in its backend's.
            if row["pxname"] in waiting and row["qcur"]:
                waiting[row["pxname"]] += int(row["qcur"])
        length = GaugeMetricFamily(
            "orch_queue_length", "Requests that wait their turn.", labels=["queue"]
        )
        for name, count in waiting.items():
            length.add_metric([name], count)
        yield length
        # "UP 1/2" is one that has just come, or has missed a check.
        up = sum(row["pxname"] == ENGINES and row["svname"] != "BACKEND"
                 and row["status"].startswith("UP") for row in rows)  # fmt: skip
        yield GaugeMetricFamily(
            "orch_door_replicas_up", "Replicas that the door gives requests to.", value=up
        )
