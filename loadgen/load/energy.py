"""The energy of the GPUs while a run is measured.

By their counters, read before and after: those of DCGM's exporter (--gpu-metrics URL, one for each
GPU node), or of NVIDIA's driver on this machine, if the replicas run on it. All GPUs that are
visible there count, whoever uses them.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engines.gpus.described import ENERGY
from engines.http.asking import http_client
from engines.http.headers import Headers
from engines.http.sockets import addresses_of
from loadgen.measurements import Energy
from loadgen.options import Options

if TYPE_CHECKING:
    from engines.gpus.nvidia import Gpu as NvidiaGpu

#: A GPU's identity, the millijoules of each, and which one has a number on a host.
Gpu = str
Counters = Mapping[Gpu, float]
Places = Mapping[tuple[str, str], Gpu]

_OLD_INSTANCE = "MIG-GPU-"  # MIG-GPU-UUID/GI/CI, before driver R470
TIMEOUT_S = 5.0
HERE = "this machine"
_UNKNOWN = (
    "no GPU power is known here: give --gpu-metrics URL of a DCGM exporter, or run beside the GPUs "
    "where there is NVIDIA's driver"
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
        with _by_counters(options, meter):
            yield meter
    elif all(_is_here(replica.host) for replica in options.replicas):
        with _by_driver(meter):
            yield meter
    else:
        yield meter


def _is_here(host: str) -> bool:
    """Whether all its addresses are this machine's: then they can be listened on."""
    try:
        for address, port in addresses_of(host, 0):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as probe:
                probe.bind((address, port))
    except (OSError, UnicodeError):
        return False
    return True


@contextlib.contextmanager
def _by_counters(options: Options, meter: Meter) -> Iterator[None]:
    before, started_at = _read(options), perf_counter()
    yield
    after, seconds = _read(options), perf_counter() - started_at
    counters = [
        {url: counters_in(text, urlsplit(url).netloc) for url, text in texts.items()}
        for texts in (before, after)
    ]
    used = used_between(counters[0], counters[1], "DCGM")
    places = {place: gpu for text in after.values() for place, gpu in places_in(text).items()}
    meter.reading = replace(used, gpus_at=places, seconds=seconds)


def _read(options: Options) -> dict[str, str]:
    around = options.ca, options.monitoring_login
    return {url: read_exporter(url, *around) for url in options.gpu_metrics}


@contextlib.contextmanager
def _by_driver(meter: Meter) -> Iterator[None]:
    from engines.gpus import nvidia  # a large module, and most machines have no driver

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(nvidia.driver())
        except nvidia.NoDriver:
            yield
            return
        gpus = nvidia.gpus()  # before the run: which there are, costs the most
        before, started_at = _counters_of(gpus), perf_counter()
        yield
        after, seconds = _counters_of(gpus), perf_counter() - started_at
        host = socket.gethostname()
        meter.reading = replace(
            used_between({HERE: before}, {HERE: after}, "NVML"),
            gpus_at={(host, str(gpu.index)): gpu.uuid for gpu in gpus},
            seconds=seconds,
        )


def _counters_of(gpus: Sequence[NvidiaGpu]) -> Counters:
    """The counters of those GPUs; none if there is one without."""
    found = {gpu.uuid: gpu.millijoules() for gpu in gpus}
    known = {uuid: float(value) for uuid, value in found.items() if value is not None}
    return known if len(known) == len(found) else {}


def used_between(
    before: Mapping[str, Counters], after: Mapping[str, Counters], source: str
) -> Energy:
    """Return the energy used by the counters, of each GPU once, by whichever exporter has it."""
    used: dict[Gpu, float] = {}
    problems: dict[Gpu, str] = {}
    for url in before:
        if not before[url] or not after[url]:
            return Energy(why=f"{url} has no energy counter of {source}'s")
        for gpu in {**before[url], **after[url]}:
            problem = _problem(before[url].get(gpu), after[url].get(gpu))
            if problem is None:
                used.setdefault(gpu, after[url][gpu] - before[url][gpu])
            else:
                problems.setdefault(gpu, f"the energy counter of {gpu} at {url} {problem}")
    for gpu, problem in problems.items():
        if gpu not in used:
            return Energy(why=problem)
    joules = {gpu: millijoules / 1000 for gpu, millijoules in used.items()}
    words = f"{source} energy counter of {_gpus(len(used))}"
    return Energy(sum(joules.values()), words, joules_by_gpu=joules)


def _problem(before: float | None, after: float | None) -> str | None:
    """Why two values of a counter say nothing of what was used between them."""
    if before is None or after is None:
        return f"is not there {'before' if before is None else 'after'} the run"
    if after < before:
        return "began anew in the run: the driver was loaded again"
    if after == before:
        return "did not move in the run, which was too short for its exporter"
    return None


def _gpus(number: int) -> str:
    """All count: nobody tells which of them are a job's."""
    return "1 GPU" if number == 1 else f"all {number} GPUs that are seen there"


def read_exporter(url: str, ca: str | None = None, login: Headers = ()) -> str:
    """Return its metrics; "" if the URL has none. `login`: headers that it wants."""
    parts = urlsplit(url)
    connection = http_client(parts.scheme == "https", parts.netloc, None, TIMEOUT_S, ca)
    try:
        connection.request("GET", parts.path, headers=dict(login))
        return connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def counters_in(text: str, host: str) -> Counters:
    """Return millijoules by GPU, of an exporter on `host`. A GPU has one counter, however many
    lines: DCGM's exporter has one for each instance (MIG), and each is that of the whole GPU."""
    found: dict[Gpu, float] = {}
    for labels, value in _samples(text):
        gpu = _identity(labels, host)
        found[gpu] = max(value, found.get(gpu, 0.0))
    return found


def places_in(text: str) -> Places:
    """Return which GPU has a number on a host, of an exporter that says the host. Not of those in
    MIG mode: what has a number then is a part of one."""
    found = {}
    for labels, _ in _samples(text):
        host, number = labels.get("Hostname"), labels.get("gpu")
        if host and number and not labels.get("GPU_I_ID"):
            found[host, number] = _identity(labels, host)
    return found


def _samples(text: str) -> Iterator[tuple[Mapping[str, str], float]]:
    """The labels and values of the counter."""
    from prometheus_client.parser import text_string_to_metric_families  # most ask no exporter

    for line in text.splitlines():
        if not line.startswith(ENERGY):
            continue
        try:
            samples = [s for f in text_string_to_metric_families(line + "\n") for s in f.samples]
        except ValueError:  # half a line
            continue
        for sample in samples:
            if sample.name == ENERGY and math.isfinite(sample.value):
                yield sample.labels, sample.value


def _identity(labels: Mapping[str, str], host: str) -> Gpu:
    """What a GPU is known by everywhere: its UUID; else its place in its host."""
    known = {name.lower(): value for name, value in labels.items()}
    uuid = known.get("uuid") or known.get("gpu_uuid") or ""
    if uuid.startswith(_OLD_INSTANCE):
        uuid = uuid.removeprefix("MIG-").partition("/")[0]
    if uuid and not uuid.startswith("MIG-"):
        return uuid
    place = known.get("pci_bus_id") or known.get("gpu") or known.get("device") or "?"
    return f"GPU {place} of {known.get('hostname') or host}"
