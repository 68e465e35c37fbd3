"""AMD's GPUs of this machine, as ROCm's program amd-smi tells of them to an ordinary user.

Its JSON differs between releases: a list of GPUs, since 26.0 (ROCm 7) in {"gpu_data": [...]};
values as {"value": 35, "unit": "W"}, numbers or text; "N/A" for a value or a whole section. What
is missing, or in another unit than it is known in, is None.

amd-smi shows all GPUs of the node in an order of its own. A job's variables count as ROCr does: by
KFD's nodes, and only those that the job may open.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contracts.json_object import JsonObject
from engines.gpus.described import Memory, NoGpus

FOLDER = "/opt/rocm/bin"
DEVICES = Path("/dev/dri/by-path")
#: amd-smi is Python that starts anew for each question: the first one reads it from the disk.
FIRST_S = 30.0
TIMEOUT_S = 3.5  # Prometheus waits for 4
MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One of them, as `amd-smi metric` told of it. `index`: ROCr's number."""

    index: int
    uuid: str
    name: str
    told: JsonObject

    @property
    def device(self) -> str:
        return f"amd{self.index}"

    def busy(self) -> tuple[float | None, float | None]:
        """Percent of the time in which its processors worked, and its memory's controller."""
        return (
            self._value("usage", "gfx_activity", unit="%"),
            self._value("usage", "umc_activity", unit="%"),
        )

    def memory(self) -> Memory | None:
        """Its memory. amd-smi's MB are MiB."""
        names = ("total_vram", "used_vram", "free_vram")
        total, used, free = (self._value("mem_usage", name, unit="MB") for name in names)
        if total is None or used is None:
            return None
        free = total - used if free is None else free
        return Memory(int(total) * MIB, int(used) * MIB, int(free) * MIB)

    def watts(self) -> float | None:
        """The power draw of its socket."""
        return self._value("power", "socket_power", unit="W")

    def millijoules(self) -> float | None:
        """What it has used since the driver was loaded, where it counts that."""
        joules = self._value("energy", "total_energy_consumption", unit="J")
        return None if joules is None else joules * 1000

    def celsius(self) -> float | None:
        """At its hottest place, or where it does not tell that, at its edge."""
        hotspot = self._value("temperature", "hotspot", unit="C")
        return self._value("temperature", "edge", unit="C") if hotspot is None else hotspot

    def megahertz(self) -> float | None:
        """The clock of the fastest of its dies."""
        return self._clock("gfx")

    def memory_megahertz(self) -> float | None:
        """The clock of its memory."""
        return self._clock("mem")

    def throttle_reasons(self) -> None:
        """amd-smi has no bits of NVML's."""

    def _clock(self, kind: str) -> float | None:
        clocks = self.told.get("clock")
        names = (
            [name for name in clocks if name.startswith(kind)]
            if isinstance(clocks, Mapping)
            else []
        )
        found = [self._value("clock", name, "clk", unit="MHz") for name in names]
        return max((value for value in found if value is not None), default=None)

    def _value(self, *path: str, unit: str) -> float | None:
        found: object = self.told
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return number_of(found, unit)


class AmdSmi:
    """The program, which is started once for each question."""

    def __init__(self, devices: Path = DEVICES) -> None:
        """Ask which GPUs there are. Raises NoGpus if it is not there, or does not answer."""
        listed = _asked("list", seconds=FIRST_S)
        names: Mapping[int, str] = {}
        with contextlib.suppress(NoGpus):  # a name is no reason to do without figures
            static = _asked("static", "--asic", seconds=FIRST_S)
            names = {number: _text(one.get("asic"), "market_name") for number, one in static}
        ours = [(number, one) for number, one in listed if _may_open(one, devices)]
        ours.sort(key=_order)
        self._known = {
            number: Gpu(place, _text(one, "uuid"), names.get(number, ""), {})
            for place, (number, one) in enumerate(ours)
        }

    def gpus(self) -> list[Gpu]:
        """The GPUs as they are now. Raises NoGpus if it does not answer."""
        told = ((self._known.get(number), one) for number, one in _asked("metric"))
        found = [replace(gpu, told=one) for gpu, one in told if gpu is not None]
        return sorted(found, key=lambda gpu: gpu.index)


def _asked(*question: str, seconds: float = TIMEOUT_S) -> list[tuple[int, JsonObject]]:
    """What it answers, by its own numbers of GPUs. Raises NoGpus if it does not."""
    words = " ".join(("amd-smi", *question))
    text = _output(words, [_program(), *question, "--json"], seconds)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NoGpus(f"{words} --json answers with something else than JSON") from error
    gpus = found.get("gpu_data") if isinstance(found, dict) else found
    if not isinstance(gpus, list):
        raise NoGpus(f"{words} --json answers without a list of GPUs")
    numbered = ((one.get("gpu"), one) for one in gpus if isinstance(one, dict))
    return [(number, one) for number, one in numbered if isinstance(number, int)]


def _output(words: str, command: Sequence[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise NoGpus(f"{words} has not answered within {seconds:g} s") from error
    except OSError as error:
        raise NoGpus(f"{words} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise NoGpus(": ".join([f"{words} ended with exit code {done.returncode}", *lines]))
    return done.stdout


def _program() -> str:
    found = shutil.which("amd-smi") or shutil.which("amd-smi", path=FOLDER)
    if found is None:
        raise NoGpus(f"there is no amd-smi, ROCm's own program, on PATH or in {FOLDER}")
    return found


def number_of(value: object, unit: str) -> float | None:
    """Return a value of amd-smi's in this unit: 35, "35", "35 W", or {"value": 35, "unit": "W"}."""
    if isinstance(value, Mapping):
        value = f"{value.get('value')} {value.get('unit') or ''}"
    words = str(value).split()
    try:
        number = float(words[0]) if words else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and words[1:] in ([], [unit], [f"°{unit}"]) else None


def _order(one: tuple[int, JsonObject]) -> tuple[float, int]:
    """By KFD's nodes; releases before 6.4 do not tell them."""
    node = number_of(one[1].get("node_id"), "")
    return (math.inf if node is None else node, one[0])


def _may_open(gpu: JsonObject, devices: Path) -> bool:
    """Whether the scheduler lets this job: not if its device, or a link to it, is there in vain."""
    path = devices / f"pci-{_text(gpu, 'bdf').lower()}-render"
    return not os.path.lexists(path) or os.access(path, os.R_OK | os.W_OK)


def _text(section: object, key: str) -> str:
    value = section.get(key) if isinstance(section, Mapping) else None
    return value if isinstance(value, str) and value != "N/A" else ""
