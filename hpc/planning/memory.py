"""Whether the models of a deployment fit into the memory that one replica of it has.

Nobody is asked for it but files, and on one's own machine NVIDIA's driver: a plan needs no network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engines.models.memory import Need, Serving, need_of
from hpc.planning.model_files import Found
from hpc.site import Site

GIB, MIB = 1 << 30, 1 << 20
#: What Ollama leaves free on each GPU that it uses (its ml/device.go, MinimumMemory).
FREE_ON_GPU = 457 * MIB
#: The part of each GPU that vLLM leaves free (its CacheConfig, gpu_memory_utilization), in percent.
_FREE_BY_VLLM = 8
#: What programs take beside the model in a job without GPUs: Ollama's server and runner 0.1 GiB,
#: HAProxy and exporters the rest.
PROGRAMS = 200 * MIB


@dataclass(frozen=True)
class Room:
    """The memory that one replica has. `each`: bytes of each of its `gpus`, or of the host's if it
    has none, None if that is not known; `words`: whose it is; `remedy`: what would be more;
    `unknown`: why it is not known, and how it would be."""

    each: int | None
    gpus: int
    words: str
    remedy: str
    unknown: str = ""

    def __str__(self) -> str:
        return f"{'unknown' if self.each is None else size(self.each)} {self.words}"


@dataclass(frozen=True)
class Part:
    """A model of the deployment, and what it takes; `need` is None if its file is not known."""

    found: Found
    need: Need | None


@dataclass(frozen=True)
class Fit:
    """What the models of one replica take, and of what. `fits`: None if that cannot be said."""

    parts: tuple[Part, ...]
    serving: Serving
    room: Room
    fits: bool | None

    @property
    def line(self) -> str:
        """The plan's line on it."""
        of = "" if self.room.each is None else f" of {size(self.room.each)}"
        return f"{' + '.join(map(_words_on, self.parts))}{of}: {self.verdict}"

    @property
    def verdict(self) -> str:
        """`fits`, `does not fit`, or why that is not known."""
        if self.fits is None:
            return f"whether it fits is not known ({self.unknown})"
        return "fits" if self.fits else "does not fit"

    @property
    def unknown(self) -> str:
        """What is to be known before it can be said."""
        problems = [part.found.problem for part in self.parts if part.need is None]
        return "; ".join([*problems, *([self.room.unknown] if self.room.each is None else [])])

    @property
    def source(self) -> str:
        """Where the figures are from."""
        sources = dict.fromkeys(part.found.source for part in self.parts)
        return f"{', '.join(sources)}; {self.room}"

    @property
    def needed(self) -> int:
        """Bytes that all of it takes, as far as they are known."""
        return sum(map(_known_bytes, self.parts))

    @property
    def problem(self) -> str:
        """A sentence if it does not fit, else ""."""
        if self.fits is not False:
            return ""
        what = " and ".join(part.found.name for part in self.parts)
        rest = ", so that a part of it would be on the CPU" if self.room.gpus else ""
        return (
            f"{what} would take {size(self.needed)} of memory, but a replica has {self.room}{rest}:"
            " lower num_parallel or context_length, take a smaller quantisation, or "
            f"{self.room.remedy} (orch.py --fit RECIPE says what each would cost)"
        )


def judge(found: Iterable[Found], serving: Serving, room: Room) -> Fit:
    """Whether the models fit into a replica's memory, if they are served so."""
    parts = tuple(Part(model, _need(model, serving)) for model in found)
    return Fit(parts, serving, room, _fits(parts, room, _kept_free(serving, room)))


def _need(model: Found, serving: Serving) -> Need | None:
    if model.config is not None:
        return model.config.need(serving)
    return None if model.header is None else need_of(model.header, serving, model.further)


def _kept_free(serving: Serving, room: Room) -> int:
    """Bytes of each GPU that the engine leaves to others."""
    return (room.each or 0) * _FREE_BY_VLLM // 100 if serving.engine == "vllm" else FREE_ON_GPU


def _fits(parts: Sequence[Part], room: Room, kept_free: int) -> bool | None:
    if room.each is None:
        return None
    needs = [part.need for part in parts if part.need]
    if len(needs) < len(parts):
        enough = sum(map(_known_bytes, parts)) <= room.each * max(room.gpus, 1)
        return None if enough else False
    if room.gpus == 0:
        return sum(need.total for need in needs) + PROGRAMS <= room.each
    once = sum(need.gpu_share * (need.weights + need.kv_cache) for need in needs)
    # Each GPU that a model is spread over computes, and has something left free.
    on_each = sum(need.compute + kept_free for need in needs)
    return any(once + n * on_each <= n * room.each for n in range(1, room.gpus + 1))


def _known_bytes(part: Part) -> int:
    return part.need.total if part.need else (part.found.weights or 0) + part.found.further


def _words_on(part: Part) -> str:
    need = part.need
    if need is None:
        weights = part.found.weights
        return "weights of unknown size" if weights is None else f"about {size(weights)} weights"
    if need.kv_cache == 0:
        return f"{size(need.weights)} weights + {size(need.compute)} to compute in"
    slots = f"{need.num_parallel} slot{'s' if need.num_parallel > 1 else ''}"
    return (
        f"{size(need.weights)} weights + {size(need.kv_cache)} KV cache ({slots} x "
        f"{need.context_length}) + {size(need.compute)} to compute in"
    )


def size(count: int) -> str:
    """Bytes, for people."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if abs(count) >= unit:
            return f"{count / unit:.{1 if unit == GIB else 0}f} {name}"
    return f"{count / 1024:.1f} KiB"


# --- what there is -------------------------------------------------------------------------------


def room_on_gpus(site: Site, partition: str | None, gpus: int, local: bool) -> Room:
    """The memory of the GPUs of a replica: as the site profile says it, here as NVIDIA's driver
    does."""
    each = site.gpu_memory(partition)
    asked = local and site.gpu_vendor == "nvidia"
    if each is None and asked:
        each = _of_driver()
    unknown = f"set gpu_mem_gb, the memory of a GPU, in the site profile {site.name}"
    if asked:
        unknown = f"NVIDIA's driver does not say the memory of a GPU: {unknown}"
    words = "on its GPU" if gpus == 1 else f"on each of its {gpus} GPUs"
    return Room(each, gpus, words, "ask for more or larger GPUs", unknown)


def room_of_job(mem_gb: int | None, replicas: int) -> Room:
    """The memory of a replica without GPUs, of those that share a node's job."""
    key = "job.infrastructure.mem_gb"
    return Room(
        None if mem_gb is None else mem_gb * GIB // replicas,
        0,
        "for its job" if replicas == 1 else f"for each of the {replicas} in its job",
        f"ask for more ({key})",
        f"set {key}, the memory of the job",
    )


def room_of_host(replicas: int, root: Path = Path("/")) -> Room:
    """The memory that is free on this machine now, for each of the replicas that share it; less if
    a control group of this process (a container's, a login's) may have less."""
    lines = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
    free = [int(words[1]) * 1024 for words in lines if words[:1] == ["MemAvailable:"]]
    left = list(_left_in_groups(root))
    each = min([*free, *left], default=None)
    words = "left here by a control group's limit" if each in left else "free here now"
    return Room(
        None if each is None else max(each, 0) // replicas,
        0,
        words + (f", for each of {replicas}" if replicas > 1 else ""),
        "take a machine with more",
        "/proc/meminfo does not say it",
    )


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes that each control group of this process which has a limit may still have, its parents
    too."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            mount = root / "sys/fs/cgroup"
            if controllers == "":
                files = "memory.max", "memory.current", "inactive_file"
            elif "memory" in controllers.split(","):
                mount /= "memory"
                files = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            else:
                continue
            group = PurePosixPath(path)
            for one in (group, *group.parents):  # in a container's own mount the first are missing
                with contextlib.suppress(OSError, ValueError):  # "max": it has no limit
                    yield _left_in(mount / one.relative_to("/"), *files)


def _left_in(group: Path, limit: str, used: str, cached: str) -> int:
    """What was read of files and not used for long goes for whoever needs it. Raises OSError,
    ValueError."""
    most, now = (int((group / name).read_text()) for name in (limit, used))
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return most - now + next((int(words[1]) for words in lines if words[0] == cached), 0)


def _of_driver() -> int | None:
    """Bytes of this machine's smallest GPU; None if nobody says it."""
    from engines.gpus import nvidia  # a large module, for this question alone

    try:
        with nvidia.driver():
            sizes = [memory.total for gpu in nvidia.gpus() if (memory := gpu.memory())]
    except nvidia.NoDriver:
        return None
    return min(sizes, default=None)
