"""NVIDIA's GPUs of this machine, as the driver's own library (NVML) tells of them.

That library comes with the driver, and pynvml (the package nvidia-ml-py) calls it: no program is
started, and no text is parsed. It shows the GPUs that this process may use, whatever
CUDA_VISIBLE_DEVICES says. What a GPU or an older driver does not know is None.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml  # type: ignore[import-untyped]

from engines.gpus.described import Memory, NoGpus

T = TypeVar("T")
#: ctypes' own pointers, of which pynvml has no types.
Handle = Any


class NoDriver(NoGpus):
    """NVIDIA's driver does not answer here; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """One of them. `index`: its place in the order of the PCI bus."""

    index: int
    uuid: str
    name: str
    _handle: Handle

    @property
    def device(self) -> str:
        return f"nvidia{self.index}"

    def busy(self) -> tuple[int, int] | None:
        """Percent of the last sample period with a kernel, and with traffic of the memory."""
        found = _known(lambda: pynvml.nvmlDeviceGetUtilizationRates(self._handle))
        return None if found is None else (found.gpu, found.memory)

    def memory(self) -> Memory | None:
        """Its memory; drivers before 510 count what they keep for themselves as used."""
        found = _known(
            lambda: pynvml.nvmlDeviceGetMemoryInfo(self._handle, pynvml.nvmlMemory_v2)
        ) or _known(lambda: pynvml.nvmlDeviceGetMemoryInfo(self._handle))
        return None if found is None else Memory(found.total, found.used, found.free)

    def watts(self) -> float | None:
        """Its power draw: from Ampere on the mean over a second."""
        milliwatts = _known(lambda: pynvml.nvmlDeviceGetPowerUsage(self._handle))
        return None if milliwatts is None else milliwatts / 1000

    def millijoules(self) -> int | None:
        """What it has used since the driver was loaded; GPUs before Volta do not count it."""
        return _known(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def celsius(self) -> int | None:
        """Its temperature."""
        sensor = pynvml.NVML_TEMPERATURE_GPU
        return _known(lambda: pynvml.nvmlDeviceGetTemperature(self._handle, sensor))

    def megahertz(self) -> int | None:
        """The clock of its processors."""
        return _known(lambda: pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM))

    def memory_megahertz(self) -> int | None:
        """The clock of its memory."""
        return _known(lambda: pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_MEM))

    def throttle_reasons(self) -> int | None:
        """Why its clocks are held down, a bit mask; drivers before 535 call it otherwise."""
        found = _known(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        if found is None:
            found = _known(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))
        return found


@contextlib.contextmanager
def driver() -> Iterator[None]:
    """Hold the driver open: it may take seconds to begin if nobody else does.

    Raises NoDriver if there is none, or it does not answer.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound as error:
        raise NoDriver("there is no libnvidia-ml.so.1, NVIDIA's driver's own library") from error
    except pynvml.NVMLError as error:
        raise NoDriver(f"NVIDIA's driver says: {error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def gpus() -> list[Gpu]:
    """All that are there and answer, while the `driver` is open."""
    found = []
    for index in range(_known(pynvml.nvmlDeviceGetCount) or 0):
        with contextlib.suppress(pynvml.NVMLError):  # lost, or another job's
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
            found.append(Gpu(index, uuid, name, handle))
    return found


def _known(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except pynvml.NVMLError:
        return None
