"""The GPUs of this node by NVIDIA's driver, under the names and labels of NVIDIA's DCGM exporter.

The driver is held open and asked at each scrape: a start would take seconds where no other program
has it open, the questions take milliseconds.

Names, units and types: dcgm-exporter, etc/default-counters.csv.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from engines.gpus import nvidia
from engines.gpus.nvidia import Gpu
from exporters.errors import ExporterError

LABELS = ("gpu", "UUID", "device", "modelName", "Hostname")
MIB = 1 << 20
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
_ENERGY_WORDS = "Total energy consumption since boot (in mJ)."


@dataclass(frozen=True)
class Gauge:
    """A metric, and how a GPU is asked for it."""

    name: str
    words: str
    ask: Callable[[Gpu], float | None]


def _of_busy(place: int) -> Callable[[Gpu], float | None]:
    return lambda gpu: None if (busy := gpu.busy()) is None else busy[place]


def _of_memory(part: str) -> Callable[[Gpu], float | None]:
    return lambda gpu: None if (there := gpu.memory()) is None else getattr(there, part) // MIB


GAUGES = (
    Gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", _of_busy(0)),
    Gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", _of_busy(1)),
    Gauge("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", _of_memory("used")),
    Gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", _of_memory("free")),
    Gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", Gpu.watts),
    Gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", Gpu.celsius),
    Gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", Gpu.megahertz),
    Gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", Gpu.memory_megahertz),
    Gauge(
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "Why the clocks are lower than they could be (bit mask of NVML).",
        Gpu.throttle_reasons,
    ),
)


class GpuCollector(Collector):
    """All GPUs that NVIDIA's driver shows here, which is open until `close`."""

    def __init__(self) -> None:
        """Open the driver. Raises ExporterError if there is none."""
        self._host = socket.gethostname()
        self._open = contextlib.ExitStack()
        try:
            self._open.enter_context(nvidia.driver())
        except nvidia.NoDriver as error:
            raise ExporterError(
                f"there is nothing to tell about GPUs ({error}); leave out --gpu-listen, or give "
                "the container the GPUs (--nv)."
            ) from error

    def close(self) -> None:
        """Close the driver."""
        self._open.close()

    def collect(self) -> Iterable[Metric]:
        """Ask each GPU."""
        found = nvidia.gpus()
        for gauge in GAUGES:
            yield self._asked(GaugeMetricFamily(gauge.name, gauge.words, labels=LABELS),
                              gauge.ask, found)  # fmt: skip
        # Untyped: as a counter it would get the suffix _total, which DCGM's exporter does not add.
        energy = UnknownMetricFamily(ENERGY, _ENERGY_WORDS, labels=LABELS)
        yield self._asked(energy, Gpu.millijoules, found)

    def _asked(
        self,
        family: GaugeMetricFamily | UnknownMetricFamily,
        ask: Callable[[Gpu], float | None],
        gpus: Iterable[Gpu],
    ) -> Metric:
        for gpu in gpus:
            value = ask(gpu)
            if value is not None:
                labels = (str(gpu.index), gpu.uuid, f"nvidia{gpu.index}", gpu.name, self._host)
                family.add_metric(labels, value)
        return family
