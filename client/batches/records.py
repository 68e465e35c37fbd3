"""A batch as it is written down, and as OpenAI's API shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from batch.files import Files
from batch.state import BatchState, read_state
from contracts.job_files import fresh
from contracts.json_object import JsonObject

Status = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "cancelling", "cancelled"
]
OVER: Sequence[Status] = ("completed", "failed", "cancelled")
#: What OpenAI's API calls the path of all lines of a batch.
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
#: How ids of batches begin, which are the names of their folders.
ID_BEGINS = "batch_"
_ID = re.compile(rf"{ID_BEGINS}[0-9a-f]+")
_LINE = re.compile(r"\bline (\d+)\b")


class BatchBody(BaseModel):
    """The body of POST /v1/batches."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    input_file_id: str = Field(description="The id of a file with the purpose `batch`.")
    endpoint: Endpoint = Field(
        description="The path of its lines: /v1/chat/completions, /v1/completions, /v1/embeddings "
        "or /v1/responses. A line with another `url` is wrong."
    )
    completion_window: Literal["24h"] = Field(
        description="`24h`, which bounds nothing here: a batch goes on until it is worked off."
    )
    metadata: dict[
        Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]
    ] | None = Field(
        None, max_length=16, description="At most 16 texts by names, which come back."
    )  # fmt: skip


class BatchRecord(BaseModel):
    """A batch: who has asked what, and how far it is. Times are Unix times. `attempts`: processes
    that were begun for it and ended before it was done."""

    model_config = ConfigDict(frozen=True)

    id: str
    user: str
    asked: BatchBody
    status: Status = "validating"
    created: float
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    #: Of its outputs, once it is over; of what it has not written there is none.
    output_file_id: str | None = None
    error_file_id: str | None = None
    problem: str | None = None
    progress: BatchState = BatchState()
    attempts: int = 0

    def as_json(self) -> JsonObject:
        """The batch as OpenAI's API shows it."""
        asked, progress = self.asked, self.progress
        times = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "cancelling_at",
                 "cancelled_at")  # fmt: skip
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": asked.endpoint,
            "errors": self._errors(),
            "input_file_id": asked.input_file_id,
            "completion_window": asked.completion_window,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": int(self.created),
            **{name: _whole(getattr(self, name)) for name in times},
            "expires_at": None,
            "expired_at": None,
            "request_counts": {"total": progress.total, "completed": progress.completed,
                               "failed": progress.failed},
            "usage": {
                "input_tokens": progress.input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": progress.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": progress.input_tokens + progress.output_tokens,
            },
            "metadata": asked.metadata,
        }  # fmt: skip

    def _errors(self) -> JsonObject | None:
        if self.problem is None:
            return None
        said = (self.problem, *self.progress.details)
        return {"object": "list", "data": [_error(one) for one in said]}


def outputs_of(folder: Path) -> Files:
    """Return what is written of a batch in its folder."""
    return Files(folder / "out.jsonl")


def read_records(folder: Path, known: Mapping[str, BatchRecord]) -> dict[str, BatchRecord]:
    """Return the batches of a folder, as they are there now, by their ids; what is known to be over
    stays as it is. Raises OSError."""
    found = {}
    for path in fresh(folder / ".").glob(f"{ID_BEGINS}*"):
        record = known.get(path.name)
        if record is None or record.status not in OVER:
            record = read_record(folder, path.name)
        if record is not None:
            found[record.id] = record
    return found


def read_record(folder: Path, batch_id: str) -> BatchRecord | None:
    """Return a batch of a folder, as it is there now; None if there is none, or it is of no use."""
    if not _ID.fullmatch(batch_id):
        return None
    path = folder / batch_id
    try:
        record = BatchRecord.model_validate_json(fresh(path / "batch.json").read_bytes())
    except (OSError, ValidationError):
        return None
    state = None if record.status in OVER else read_state(outputs_of(path).state)
    return record if state is None else record.model_copy(update={"progress": state})


def _error(said: str) -> JsonObject:
    line = _LINE.search(said)
    number = int(line[1]) if line else None
    code = "batch_failed" if number is None else "invalid_line"
    return {"code": code, "message": said, "param": None, "line": number}


def _whole(at: float | None) -> int | None:
    return None if at is None else int(at)
