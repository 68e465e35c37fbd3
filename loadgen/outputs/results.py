"""The results of a finished run or sweep, read back from its folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from contracts.errors import UsageError
from contracts.summary import Summary, Sweep
from contracts.validation import first_problem
from loadgen import json_lines
from loadgen.load.child_process import summaries
from loadgen.measurements import RequestLine


@dataclass(frozen=True)
class RunResult:
    """One run: its folder and its summary; the requests are read when they are asked for."""

    folder: Path
    summary: Summary

    @property
    def requests(self) -> list[RequestLine]:
        """All of them. Raises UsageError if requests.jsonl cannot be read."""
        return read_requests(self.folder)


#: The runs of one side by the value of their point; None: they are of no sweep.
Side = Mapping[float | None, Sequence[RunResult]]


def read_summary(folder: Path) -> Summary | Sweep:
    """Return summary.json of a run or a sweep. Raises UsageError if there is none."""
    path = folder / "summary.json"
    try:
        return parse(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} holds no results (no summary.json); name the --out folder of a finished run."
        ) from error
    except ValidationError as error:
        why = first_problem(error)
        raise UsageError(f"{path} is no summary of a run or a sweep ({why}).") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error


def parse(found: object) -> Summary | Sweep:
    """Return what summary.json holds, also of older runs. Raises ValidationError."""
    if isinstance(found, dict) and "sweep" in found:
        return _sweeps().validate_python(found)
    return summaries().validate_python(found)


@functools.cache
def _sweeps() -> TypeAdapter[Sweep]:
    """To make it takes longer than to read a sweep by it."""
    return TypeAdapter(Sweep)


def read_requests(folder: Path) -> list[RequestLine]:
    """Return what requests.jsonl holds. Raises UsageError if it cannot be read."""
    try:
        return list(json_lines.requests(folder))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} holds no requests.jsonl; its run has not finished.") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'requests.jsonl'} cannot be read: {error}.") from error


def sweep_runs(folder: Path, summary: Sweep) -> dict[float, RunResult]:
    """Return the runs of a sweep by the value of each point (clients, or requests per second)."""
    points = summary.sweep.points
    return {point.value: RunResult(folder / point.folder, point.summary) for point in points}


def read_side(folders: Sequence[Path]) -> Side:
    """Return the runs of folders, each of a run, a sweep, or several of them one level down.

    Raises UsageError: a folder holds no results, or sweeps and single runs come together.
    """
    side: dict[float | None, list[RunResult]] = {}
    for folder in folders:
        for inner in _with_results(folder):
            summary = read_summary(inner)
            found: Iterable[tuple[float | None, RunResult]]
            if isinstance(summary, Sweep):
                found = sweep_runs(inner, summary).items()
            else:
                found = [(None, RunResult(inner, summary))]
            for value, run in found:
                side.setdefault(value, []).append(run)
    if None in side and len(side) > 1:
        names = ", ".join(map(str, folders))
        raise UsageError(f"{names}: sweeps and single runs cannot be compared as one side.")
    return side


def _with_results(folder: Path) -> list[Path]:
    if (folder / "summary.json").exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/summary.json"))
    if not found:
        raise UsageError(
            f"{folder} holds no results: neither it nor a folder in it has a summary.json; name "
            "the --out folder of a run, or a folder of such folders."
        )
    return found
