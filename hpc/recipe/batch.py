"""The batch of a recipe: where its files are, and whether it begins as one does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import expanded
from hpc.recipe.links import real_path
from hpc.recipe.schema import Service
from hpc.recipe.sections import Batch

#: So many lines are looked at before anything is submitted; the worker looks at all of them.
FIRST_LINES = 100


@dataclass(frozen=True)
class BatchFiles:
    """What the command line says of a batch: paths as they are from here."""

    input: Path
    output: Path | None


def working_off(service: Service, given: BatchFiles, recipe: Path) -> Service:
    """The service as one that works off the files given, and nothing else.

    Raises UsageError if the recipe starts no engine.
    """
    if service.server is not None:
        raise UsageError(
            f"recipe {recipe} measures a server that it does not start (job.service.server); give "
            "a recipe that deploys a model."
        )
    files = {
        "input": str(given.input.absolute()),
        "output": str(given.output.absolute()) if given.output else None,
    }
    batch = (service.batch or Batch(input="-")).model_copy(update=files)
    nothing = {"question": None, "n_requests_per_client": 0, "n_requests": None, "rate": None}
    return service.model_copy(
        update={
            **nothing,
            "duration_seconds": None,
            "idle_timeout": None,
            "on_request": False,
            "batch": batch,
        }
    )


def batch_at(batch: Batch, recipe: Path) -> Batch:
    """The batch with absolute paths. Raises UsageError if its input cannot be read or is empty, if
    one of its first lines cannot be asked, or if there is no place for its answers."""
    from batch.files import Files, files_of  # most recipes have none
    from batch.given.check import check_first

    given = _path_at(batch.input, recipe)
    check_first(given, FIRST_LINES)
    out = _path_at(batch.output, recipe) if batch.output else files_of(given).answers
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"the answers of the batch cannot be written to {out.parent}: it is no folder in which "
            "you may write; make it, or name another output."
        )
    if problem := Files(out).problem:
        raise UsageError(f"the batch's output {out} {problem}.")
    if out == given:
        raise UsageError(f"the batch {given} is its own output; name another file for the answers.")
    return batch.model_copy(update={"input": str(given), "output": str(out)})


def folders_of(batch: Batch) -> list[Path]:
    """The folders of its files, which a container must be shown."""
    files = filter(None, (batch.input, batch.output))
    return sorted({Path(file).parent for file in files})


def _path_at(text: str, recipe: Path) -> Path:
    return real_path(recipe.parent / expanded(text))
