"""The GPUs of this node by nvidia-smi, under the names and labels of NVIDIA's DCGM exporter.

One nvidia-smi runs all the time and prints a line for each GPU every second. A call per scrape
would cost more: each start opens the driver anew, and looks at every GPU of the node, which takes
seconds if no other program holds it open; a loop only asks for a few values. A second, because
that is the time over which `power.draw` is an average (nvidia-smi --help-query-gpu: "On Ampere or
newer devices, returns average power draw over 1 sec"), so that its sum over time is the energy.

Names, units and types: dcgm-exporter, etc/default-counters.csv.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from prometheus_client.metrics_core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from exporters.errors import ExporterError

PERIOD_MS = 1000
#: Values older than this are not told: nvidia-smi hangs, or has ended.
STALE_S = 5.0
RESTART_AFTER_S = 5.0
LABELS = ("gpu", "UUID", "device", "modelName", "Hostname")
#: To a pipe a program writes whole blocks, which are minutes of lines here.
_LINE_BY_LINE = ("stdbuf", "-oL") if shutil.which("stdbuf") else ()
_IDENTITY = ("index", "uuid", "name")
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
_ENERGY_WORDS = "Energy since this exporter began, by power and time (in mJ)."


@dataclass(frozen=True)
class Gauge:
    """A metric, and under which names nvidia-smi has it: newer drivers give some another name."""

    name: str
    words: str
    fields: tuple[str, ...]


_POWER = Gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", ("power.draw",))
GAUGES = (
    Gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", ("utilization.gpu",)),
    Gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", ("utilization.memory",)),
    Gauge("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", ("memory.used",)),
    Gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", ("memory.free",)),
    _POWER,
    Gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", ("temperature.gpu",)),
    Gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", ("clocks.sm",)),
    Gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", ("clocks.mem",)),
    Gauge(
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "Why the clocks are lower than they could be (bit mask of NVML).",
        ("clocks_event_reasons.active", "clocks_throttle_reasons.active"),
    ),
)


def nvidia_smi() -> str:
    """Return the path of nvidia-smi. Raises ExporterError if there is none."""
    found = shutil.which("nvidia-smi")
    if found is None:
        raise ExporterError(
            "nvidia-smi is not on PATH, so that there is nothing to tell about GPUs; leave out "
            "--gpu-listen, or give the container the GPUs (--nv)."
        )
    return found


@dataclass
class Gpu:
    """The last that was heard of one GPU: labels, values by metric, and energy in joules."""

    labels: tuple[str, ...]
    values: Mapping[str, float] = field(default_factory=dict)
    at: float = 0.0
    joules: float = 0.0

    def update(self, values: Mapping[str, float], now: float) -> None:
        """Take new values. Energy grows by the power of the time since the last ones, if they are
        not so old that nobody knows what was in between."""
        power = values.get(_POWER.name)
        if power is not None and self.at and now - self.at < STALE_S:
            self.joules += power * (now - self.at)
        self.values, self.at = values, now


class GpuCollector(Collector):
    """All GPUs that nvidia-smi shows here; `start` begins to watch them, `close` ends it."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._host = socket.gethostname()
        self._gpus: dict[str, Gpu] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Watch, in a thread of its own."""
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        """End nvidia-smi."""
        with self._lock:
            self._closing.set()
            process = self._process
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)

    def collect(self) -> Iterable[Metric]:
        """Yield what was heard last, if that is not too long ago."""
        now = monotonic()
        with self._lock:
            fresh = [
                (gpu.labels, gpu.values, gpu.joules)
                for gpu in self._gpus.values()
                if now - gpu.at < STALE_S
            ]
        for gauge in GAUGES:
            family = GaugeMetricFamily(gauge.name, gauge.words, labels=LABELS)
            for labels, values, _ in fresh:
                if gauge.name in values:
                    family.add_metric(labels, values[gauge.name])
            yield family
        # Untyped: as a counter it would get the suffix _total, which DCGM's exporter does not add.
        energy = UnknownMetricFamily(ENERGY, _ENERGY_WORDS, labels=LABELS)
        for labels, values, joules in fresh:
            if _POWER.name in values:
                energy.add_metric(labels, joules * 1000)
        yield energy

    # --- in the thread that watches ---

    def _watch(self) -> None:
        while not self._closing.is_set():
            asked = known_fields(self._program)
            if asked:
                self._listen(asked)
            self._closing.wait(RESTART_AFTER_S)

    def _listen(self, asked: Mapping[str, str]) -> None:
        """Until nvidia-smi ends."""
        with self._lock:
            if self._closing.is_set():
                return
            self._process = process = self._begin([*_IDENTITY, *asked.values()])
        if process is None or process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                self._hear(line, list(asked))
        process.wait()

    def _begin(self, fields: Sequence[str]) -> subprocess.Popen[str] | None:
        command = [*_LINE_BY_LINE, self._program, f"--query-gpu={','.join(fields)}"]
        command += ["--format=csv,noheader,nounits", f"--loop-ms={PERIOD_MS}"]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError:
            return None  # tried again

    def _hear(self, line: str, names: Sequence[str]) -> None:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(_IDENTITY) + len(names):
            return  # a warning, or words about a GPU that is lost
        index, uuid, model = cells[: len(_IDENTITY)]
        values = {
            name: value
            for name, cell in zip(names, cells[len(_IDENTITY) :], strict=True)
            if (value := parse_number(cell)) is not None
        }
        labels = (index, uuid, f"nvidia{index}", model, self._host)
        with self._lock:
            self._gpus.setdefault(uuid, Gpu(labels)).update(values, monotonic())


def parse_number(cell: str) -> float | None:
    """Return a number, also a bit mask such as 0x0000000000000001; None for [N/A] and the like."""
    try:
        return float(int(cell, 16)) if cell.startswith("0x") else float(cell)
    except ValueError:
        return None


def known_fields(program: str) -> dict[str, str]:
    """Return by metric the name that this nvidia-smi has for it: with one field that it does not
    know, it would report nothing at all."""
    try:
        helped = subprocess.run(
            [program, "--help-query-gpu"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    known = {
        gauge.name: next((name for name in gauge.fields if f'"{name}"' in helped), None)
        for gauge in GAUGES
    }
    return {name: asked for name, asked in known.items() if asked is not None}
