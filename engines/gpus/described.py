"""What is asked of a GPU, whichever vendor's it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: What a DCGM exporter calls `millijoules`.
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"


class NoGpus(Exception):
    """Nobody tells of the vendor's GPUs here; the message says why."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a GPU's memory. What the driver keeps for itself is in `total` alone."""

    total: int
    used: int
    free: int


class Gpu(Protocol):
    """One of them; None is what it does not tell. `index`: by which a job's variables name it."""

    @property
    def index(self) -> int: ...
    @property
    def uuid(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str:
        """Its name among the devices of this machine."""

    def busy(self) -> tuple[float | None, float | None] | None:
        """Percent of the last sample period with a kernel, and with traffic of the memory."""

    def memory(self) -> Memory | None:
        """Its memory."""

    def watts(self) -> float | None:
        """Its power draw."""

    def millijoules(self) -> float | None:
        """What it has used since the driver was loaded, by its own counter."""

    def celsius(self) -> float | None:
        """Its temperature."""

    def megahertz(self) -> float | None:
        """The clock of its processors."""

    def memory_megahertz(self) -> float | None:
        """The clock of its memory."""

    def throttle_reasons(self) -> int | None:
        """Why its clocks are held down, the bit mask of NVML."""
