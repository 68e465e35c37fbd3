"""The GPUs of this node, under the names and labels of NVIDIA's DCGM exporter: those of NVIDIA by
its driver, those of AMD by amd-smi.

NVIDIA's driver is held open and asked at each scrape: a start would take seconds where no other
program has it open, the questions take milliseconds. amd-smi is started once for each scrape.

Names, units and types: dcgm-exporter, etc/default-counters.csv.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from engines.gpus.described import ENERGY, Gpu, NoGpus
from exporters.errors import ExporterError

LABELS = ("gpu", "UUID", "device", "modelName", "Hostname")
MIB = 1 << 20
_ENERGY_WORDS = "Total energy consumption since boot (in mJ)."
_REMEDIES = {
    "nvidia": "give the container the GPUs (--nv)",
    "amd": "load or install ROCm, as a member of the groups video and render",
}


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
    Gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", lambda gpu: gpu.watts()),
    Gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", lambda gpu: gpu.celsius()),
    Gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", lambda gpu: gpu.megahertz()),
    Gauge(
        "DCGM_FI_DEV_MEM_CLOCK",
        "Memory clock frequency (in MHz).",
        lambda gpu: gpu.memory_megahertz(),
    ),
    Gauge(
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "Why the clocks are lower than they could be (bit mask of NVML).",
        lambda gpu: gpu.throttle_reasons(),
    ),
)


class GpuCollector(Collector):
    """All GPUs of a vendor that are shown here. They may be asked until `close`."""

    def __init__(self, vendor: str) -> None:
        """Find out who tells of them. Raises ExporterError if nobody does."""
        self._host = socket.gethostname()
        self._open = contextlib.ExitStack()
        self._silent = False
        try:
            self._find = self._nvidia() if vendor == "nvidia" else _amd()
        except NoGpus as error:
            raise ExporterError(
                f"there is nothing to tell about GPUs ({error}); leave out --gpu-listen, or "
                f"{_REMEDIES[vendor]}."
            ) from error

    def close(self) -> None:
        """Close NVIDIA's driver."""
        self._open.close()

    def collect(self) -> Iterable[Metric]:
        """Ask each GPU."""
        found = self._found()
        for gauge in GAUGES:
            yield self._asked(GaugeMetricFamily(gauge.name, gauge.words, labels=LABELS),
                              gauge.ask, found)  # fmt: skip
        # Untyped: as a counter it would get the suffix _total, which DCGM's exporter does not add.
        energy = UnknownMetricFamily(ENERGY, _ENERGY_WORDS, labels=LABELS)
        yield self._asked(energy, lambda gpu: gpu.millijoules(), found)

    def _nvidia(self) -> Callable[[], Sequence[Gpu]]:
        from engines.gpus import nvidia  # pynvml is large

        self._open.enter_context(nvidia.driver())
        return nvidia.gpus

    def _found(self) -> Sequence[Gpu]:
        """Those that are told of now; a silence is said once."""
        try:
            found = self._find()
        except NoGpus as error:
            if not self._silent:
                sys.stderr.write(
                    f"exporters: the GPUs have no figures until that works: {error}.\n"
                )
                sys.stderr.flush()
            self._silent = True
            return ()
        self._silent = False
        return found

    def _asked(
        self,
        family: GaugeMetricFamily | UnknownMetricFamily,
        ask: Callable[[Gpu], float | None],
        gpus: Iterable[Gpu],
    ) -> Metric:
        for gpu in gpus:
            value = ask(gpu)
            if value is not None:
                labels = (str(gpu.index), gpu.uuid, gpu.device, gpu.name, self._host)
                family.add_metric(labels, value)
        return family


def _amd() -> Callable[[], Sequence[Gpu]]:
    from engines.gpus import amd

    return amd.AmdSmi().gpus
