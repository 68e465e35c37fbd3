"""How an engine's job has loaded its model, as it has written that down (lib/loading.sh)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.jobs.ids import number_of

if TYPE_CHECKING:
    from hpc.deployments.facts import LoadingFacts

_SOURCES = {
    "file": "its file",
    "own": "the models of the output directory",
    "store": "the model store",
    "registry": "its registry",
}


def loading_of(logs: Path, job_id: str) -> list[LoadingFacts]:
    """What each replica of a job has written, in the order of their numbers; of one alone a list of
    one. Nothing of a job that has written nothing, or what nobody understands."""
    number = number_of(job_id)
    several = sorted(logs.glob(f"{number}.*.loading"), key=_replica)
    found = []
    for path in several or [logs / f"{number}.loading"]:
        try:
            lines = path.read_text(errors="replace").splitlines()
            found.append(_facts(dict(line.split(" ", 1) for line in lines)))
        except (OSError, ValueError, KeyError):
            continue
    return found


def _replica(path: Path) -> int:
    number = path.name.split(".")[1]
    return int(number) if number.isdecimal() else -1


def _facts(said: Mapping[str, str]) -> LoadingFacts:
    size, copied = int(said["bytes"]), said.get("copied_bytes")
    copy_seconds, load_seconds = _seconds(said, "copy_seconds"), _seconds(said, "load_seconds")
    return {
        "source": said["source"],
        "path": said["path"],
        "bytes": size,
        "sha256": said.get("sha256"),
        "staged": said.get("staged"),
        "copied_bytes": int(copied) if copied else 0,
        "copy_seconds": copy_seconds,
        "copy_mb_per_s": _rate(int(copied) if copied else 0, copy_seconds),
        "load_seconds": load_seconds,
        "load_mb_per_s": _rate(size, load_seconds),
    }


def _seconds(said: Mapping[str, str], name: str) -> float | None:
    return float(said[name]) if name in said else None


def _rate(size: int, seconds: float | None) -> float | None:
    """In MB (10^6 bytes) a second."""
    return round(size / seconds / 1e6, 1) if size and seconds else None


def loading_words(loading: Sequence[LoadingFacts]) -> Iterator[str]:
    """How the model was loaded, for people, of several replicas the first; nothing if nobody
    knows."""
    for first in loading[:1]:
        yield f"from {_SOURCES.get(first['source'], first['source'])}"
        if first["copy_seconds"] is not None:
            rate = first["copy_mb_per_s"]
            how = f" ({rate:.3g} MB/s)" if rate else ""
            yield f"copied to the node's disk in {first['copy_seconds']:.3g} s{how}"
        elif first["staged"]:
            yield "by a copy that was on the node's disk"
        if first["load_seconds"] is not None:
            yield f"loaded in {first['load_seconds']:.3g} s"
