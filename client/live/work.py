"""What works on the deployment: benchmarks, batches, a campaign; and their reports."""

from __future__ import annotations

import json
from pathlib import Path

from batch.files import Files
from batch.state import read_state
from client.batches.jobs import Batches
from client.benchmarks import Benchmarks
from contracts.json_object import JsonObject
from contracts.live.state import Batch, Benchmark, Campaign, Report
from engines.json_values import part_of, text_of
from loadgen.load import child_process

#: Batches and reports that are told of at most.
_MOST = 10
#: A batch of the recipe has no id.
_OF_RECIPE = "recipe"


def benchmark(runs: Benchmarks) -> Benchmark | None:
    """Return the run that goes on, or the last one."""
    run = runs.last()
    if run is None:
        return None
    progress = run.progress()
    return Benchmark(
        run=run.id,
        state=run.state,
        done=progress["done"],
        failed=progress["failed"],
        planned=progress["planned"],
        eta_s=_left(run) if run.state == child_process.RUNNING else None,
    )


def _left(run: child_process.ChildRun) -> float | None:
    """Seconds, by the time that was asked for, or by the rate so far."""
    progress = run.progress()
    elapsed, done, planned = progress["elapsed_seconds"], progress["done"], progress["planned"]
    if run.job.duration_seconds is not None:
        return round(max(0.0, run.job.duration_seconds - elapsed), 1)
    if planned is None or not done:
        return None
    return round(elapsed * max(0, planned - done) / done, 1)


def reports(runs: Benchmarks) -> tuple[Report, ...]:
    """Return those of the last runs."""
    return tuple(
        Report(name=run_id, href=f"benchmarks/{run_id}/report.html")
        for run_id in runs.reports()[:_MOST]
    )


def batches(known: Batches | None, record: JsonObject) -> tuple[Batch, ...]:
    """Return the recipe's batch, and the last ones that came to the service."""
    found = []
    out = text_of(part_of(record, "batch"), "output")
    if out and (state := read_state(Files(Path(out)).state)) is not None:
        found.append(
            Batch(
                id=_OF_RECIPE,
                state=state.state,
                total=state.total,
                completed=state.completed,
                failed=state.failed,
            )
        )
    for one in known.latest(_MOST) if known is not None else ():
        progress = one.progress
        found.append(
            Batch(
                id=one.id,
                state=one.status,
                total=progress.total,
                completed=progress.completed,
                failed=progress.failed,
            )
        )
    return tuple(found)


class Campaigns:
    """The campaign that measures a deployment, by the ledgers of the output directory: what has
    been added to them is read each time."""

    def __init__(self, output: Path, deployment: str) -> None:
        self._folder, self._deployment = output / "campaigns", deployment
        self._read: dict[Path, int] = {}
        self._group: dict[Path, str] = {}
        self._planned: dict[Path, int] = {}
        self._done: dict[Path, set[tuple[str, int]]] = {}

    def look(self) -> Campaign | None:
        """Return it; None if there is none."""
        for path in sorted(self._folder.glob("*/ledger.jsonl")):
            self._follow(path)
            if (group := self._group.get(path)) is not None:
                done = len(self._done.get(path, ()))
                return Campaign(
                    name=path.parent.name,
                    group=group,
                    done=done,
                    planned=self._planned.get(path),
                )
        return None

    def _follow(self, path: Path) -> None:
        begin = self._read.get(path, 0)
        try:
            if path.stat().st_size <= begin:
                return
            with path.open("rb") as file:
                file.seek(begin)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return
        self._read[path] = begin + len(whole) + len(newline)
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                self._take(path, entry if isinstance(entry, dict) else {})
            except (ValueError, LookupError, TypeError):
                continue  # of a version that says it otherwise

    def _take(self, path: Path, entry: JsonObject) -> None:
        """Raises LookupError, TypeError, ValueError: it is not as campaign/units.py has it."""
        kind = entry.get("entry")
        if kind == "planned":
            cells = entry["cells"]
            number = len(cells) if isinstance(cells, list) else 0
            self._planned[path] = number * int(str(entry["repetitions"]))
        elif kind == "deployed":
            if entry["id"] == self._deployment:
                self._group[path] = str(entry["group"])
        elif kind == "measured" and entry.get("state") == "done":
            unit = (str(entry["cell"]), int(str(entry["block"])))
            self._done.setdefault(path, set()).add(unit)
