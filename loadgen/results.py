"""The results of a finished run or sweep, read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.options import UsageError


@dataclass(frozen=True)
class Run:
    """One run: its folder and its summary; the requests are read when they are asked for."""

    folder: Path
    summary: Mapping[str, Any]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """A dict per request. Raises UsageError where requests.jsonl cannot be read."""
        return read_requests(self.folder)


#: The runs of one side by the value of their point; None: they are of no sweep.
Side = Mapping[float | None, Sequence[Run]]


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a run or a sweep. Raises UsageError where there is none."""
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} holds no results (no summary.json); name the --out folder of a finished run."
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    if not isinstance(summary, dict) or not (summary.keys() & {"latency_seconds", "sweep"}):
        raise UsageError(f"{path} is no summary of a run or a sweep.")
    return summary


def read_requests(folder: Path) -> list[dict[str, Any]]:
    """requests.jsonl, a dict per request. Raises UsageError where it cannot be read."""
    path = folder / "requests.jsonl"
    try:
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError as error:
        raise UsageError(f"{folder} holds no requests.jsonl; its run has not finished.") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error


def sweep_runs(folder: Path, summary: Mapping[str, Any]) -> dict[float, Run]:
    """The runs of a sweep by the value of each point (clients, or requests per second)."""
    return {
        point["value"]: Run(folder / point["folder"], point["summary"])
        for point in summary["sweep"]["points"]
    }


def read_side(folders: Sequence[Path]) -> Side:
    """The runs of folders, each of a run, a sweep, or several of them one level down.

    Raises UsageError: a folder holds no results, or sweeps and single runs come together.
    """
    side: dict[float | None, list[Run]] = {}
    for folder in folders:
        for inner in _with_results(folder):
            summary = read_summary(inner)
            found: Mapping[Any, Run] = {None: Run(inner, summary)}
            if "sweep" in summary:
                found = sweep_runs(inner, summary)
            for value, run in found.items():
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
