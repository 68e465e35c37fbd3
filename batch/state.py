"""How far a batch is, as its state file says it to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.files import write_whole

#: `interrupted`: told to end, or it had to; the same command does what is missing. `failed`: the
#: same command would end in the same way, until what `problem` says is put right. `completed`:
#: each line has an answer, or has failed in the end. `cancelled`: somebody has said so.
BatchStatus = Literal["checking", "in_progress", "completed", "failed", "cancelled", "interrupted"]


class BatchState(BaseModel):
    """What is in the file. More keys may come."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    state: BatchStatus = "checking"
    #: Lines of the input that hold something.
    total: int = 0
    #: Lines that have an answer, also those of runs before.
    completed: int = 0
    #: Lines that have failed in this run.
    failed: int = 0
    #: Lines whose answers are of runs before.
    reused: int = 0
    #: Answers per second within the last minute.
    rate: float = 0.0
    #: Tokens of all answers that are there, as far as the server has counted them.
    input_tokens: int = 0
    output_tokens: int = 0
    #: Seconds until all is done at this rate; null if that is not known.
    eta_s: float | None = None
    #: In a sentence, what is wrong or has ended it.
    problem: str | None = None
    #: What there is to say of it beside that: of an input the first lines that are wrong.
    details: tuple[str, ...] = ()
    #: When this was so, in ISO 8601.
    at: str = ""


def write_state(path: Path, state: BatchState) -> None:
    """Write it whole. Raises OSError."""
    write_whole(path, [state.model_dump_json() + "\n"])


def read_state(path: Path) -> BatchState | None:
    """Return what the file says; None if there is none, or none that is whole."""
    try:
        return BatchState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
