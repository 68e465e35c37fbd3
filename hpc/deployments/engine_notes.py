"""What a job has written of its engine that the engine does not say by HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contracts.jobs.ids import number_of


@dataclass(frozen=True)
class EngineNotes:
    """Of a job's engine: its version, the quantisation of its model, and the bytes of that; what
    is not known is not there. `on_gpus`: whether it has the model on GPUs, on all its nodes;
    `off_gpus`: the numbers of those of several replicas that have it elsewhere."""

    version: str = ""
    quantization: str | None = None
    size: int | None = None
    on_gpus: bool = False
    off_gpus: tuple[int, ...] = ()


def engine_notes(output: Path, job_id: str) -> EngineNotes:
    """What the job has written down so far, each of its replicas in files of its own."""
    weights = next(_texts(output, job_id, "weights"), "")
    quantization, _, size = weights.partition("\n")
    places = [(_replica(path), _text(path)) for path in _files(output, job_id, "placement")]
    return EngineNotes(
        version=next(_texts(output, job_id, "version"), ""),
        quantization=quantization or None,
        size=int(size) if size.isascii() and size.isdigit() else None,
        on_gpus={place for _, place in places} == {"gpu"},
        off_gpus=tuple(sorted(n for n, place in places if n is not None and place != "gpu")),
    )


def _texts(output: Path, job_id: str, ending: str) -> Iterator[str]:
    return map(_text, _files(output, job_id, ending))


def _files(output: Path, job_id: str, ending: str) -> list[Path]:
    return sorted((output / "logs").glob(f"{number_of(job_id)}.*{ending}"))


def _text(path: Path) -> str:
    return path.read_text(errors="replace").strip()


def _replica(path: Path) -> int | None:
    """The number in JOB.NUMBER.ENDING; None of the one of a job with one replica."""
    number = path.stem.rpartition(".")[2] if path.stem.count(".") else ""
    return int(number) if number.isdecimal() else None
