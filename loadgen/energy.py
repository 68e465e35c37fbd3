"""The energy of the GPUs while a run is measured.

By a counter of DCGM's exporter, read before and after (--gpu-metrics URL, one for each GPU node),
or by nvidia-smi on this machine, where the replicas run on it; a process of its own takes the
samples. All GPUs that are visible there count, whoever uses them.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

from loadgen.options import Options
from loadgen.records import Energy

#: Millijoules since the driver was loaded (DCGM, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION").
_COUNTER = re.compile(r"^DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION(?:\{[^}]*\})? ([0-9.eE+]+)", re.M)
SAMPLE_MS = 200
TIMEOUT_S = 5.0
_UNKNOWN = (
    "no GPU power is known here: give --gpu-metrics URL of a DCGM exporter, or run beside the GPUs "
    "where there is nvidia-smi"
)


@dataclass
class Meter:
    """`reading` is there once the measurement is over."""

    reading: Energy = field(default_factory=lambda: Energy(why=_UNKNOWN))


@contextlib.contextmanager
def metered(options: Options) -> Iterator[Meter]:
    """Measure while the context lasts."""
    meter = Meter()
    if options.gpu_metrics:
        with _by_counters(options.gpu_metrics, meter):
            yield meter
    elif shutil.which("nvidia-smi") and all(_is_here(r.host) for r in options.replicas):
        with _by_nvidia_smi(meter):
            yield meter
    else:
        yield meter


def _is_here(host: str) -> bool:
    """Whether an address is this machine's: then it can be listened on."""
    try:
        address = socket.gethostbyname(host)
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _by_counters(urls: Sequence[str], meter: Meter) -> Iterator[None]:
    before = [read_counter(url) for url in urls]
    yield
    after = [read_counter(url) for url in urls]
    missing = [u for u, a, b in zip(urls, before, after, strict=True) if a is None or b is None]
    if missing:
        meter.reading = Energy(why=f"{', '.join(missing)} has no energy counter of DCGM's")
    else:
        used = sum(b - a for a, b in zip(before, after, strict=True) if a is not None and b)
        meter.reading = Energy(used / 1000, "DCGM energy counter")


def read_counter(url: str) -> float | None:
    """The sum over all GPUs, in millijoules; None where the URL does not say."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    found = [float(value) for value in _COUNTER.findall(text)]
    return sum(found) if found else None


@contextlib.contextmanager
def _by_nvidia_smi(meter: Meter) -> Iterator[None]:
    command = ["nvidia-smi", "--query-gpu=index,power.draw", "--format=csv,noheader,nounits"]
    command += [f"--loop-ms={SAMPLE_MS}"]
    # A file: a pipe that nobody reads while we measure would fill up, and stop it.
    with tempfile.TemporaryFile("w+") as samples:
        began = perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=samples, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            seconds = perf_counter() - began
            process.terminate()
            process.wait()
        samples.seek(0)
        text = samples.read()
    watts = mean_watts(text)
    if watts is None:
        meter.reading = Energy(why="nvidia-smi tells no power draw of these GPUs")
    else:
        meter.reading = Energy(watts * seconds, f"nvidia-smi every {SAMPLE_MS} ms")


def mean_watts(text: str) -> float | None:
    """All GPUs together, by lines `index, watts`; None where there is no number among them."""
    samples: dict[str, list[float]] = {}
    for line in text.splitlines():
        gpu, _, watts = line.partition(",")
        with contextlib.suppress(ValueError):
            samples.setdefault(gpu.strip(), []).append(float(watts))
    if not samples:
        return None
    return sum(sum(values) / len(values) for values in samples.values())
