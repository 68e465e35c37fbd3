"""What a job has written of its engine that the engine does not say by HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contracts.jobs.ids import number_of


@dataclass(frozen=True)
class EngineNotes:
    """Of a job's engine: its version, the quantisation of its model, and the bytes of that; what
    is not known is not there. `on_gpus`: whether it has the model on GPUs, on all its nodes."""

    version: str = ""
    quantization: str | None = None
    size: int | None = None
    on_gpus: bool = False


def engine_notes(output: Path, job_id: str) -> EngineNotes:
    """What the job has written down so far, each of its replicas in files of its own."""
    weights = next(_texts(output, job_id, "weights"), "")
    quantization, _, size = weights.partition("\n")
    return EngineNotes(
        version=next(_texts(output, job_id, "version"), ""),
        quantization=quantization or None,
        size=int(size) if size.isascii() and size.isdigit() else None,
        on_gpus=set(_texts(output, job_id, "placement")) == {"gpu"},
    )


def _texts(output: Path, job_id: str, ending: str) -> Iterator[str]:
    for path in sorted((output / "logs").glob(f"{number_of(job_id)}.*{ending}")):
        yield path.read_text(errors="replace").strip()
