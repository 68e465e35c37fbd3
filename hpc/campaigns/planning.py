"""What a campaign will take, before it starts: cells, deployments, jobs, time, GPU-hours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from campaign.cells import Cell
from campaign.missing import Missing
from campaign.units import Ledger, Planned
from hpc.campaigns.reading import Checked
from hpc.campaigns.repetitions import Work
from hpc.console import columns
from hpc.times import format_time
from ledger.conditions import differences


@dataclass(frozen=True)
class Estimate:
    """Of what is missing; seconds and GPU-hours are None if they are not known. `deployments`: how
    many are begun, by groups; `unknown`: what is not known."""

    runs: int
    deployments: Mapping[str, int]
    jobs: int
    seconds: float | None
    gpu_hours: float | None
    unknown: str = ""


def estimate(work: Work, ledger: Ledger) -> Estimate:
    """What the missing repetitions will take, by the runs and deployments in the ledger; of a cell
    without any by the seconds of its load."""
    checked, missing = work.checked, Missing(ledger)
    units = [unit for unit in ledger.wanted if missing.is_missing(unit)]
    deployments = missing.deployments(checked.design)
    jobs = sum(n * work.sizes[group].jobs for group, n in deployments.items())
    of_cell = {cell.key: _run_s(cell, checked, ledger) for cell in checked.cells}
    strange = [key for key in dict.fromkeys(cell for cell, _ in units) if of_cell[key] is None]
    if strange:
        words = f"no run of {len(strange)} cells is in the ledger yet, nor is their load a time"
        return Estimate(len(units), deployments, jobs, None, None, words)
    begins = _deploy_s(ledger)
    by_group: dict[str, float] = {}
    for group, times in deployments.items():
        runs = [of_cell[cell] or 0.0 for cell, _ in units if checked.group_of[cell].id == group]
        by_group[group] = sum(runs) + times * (begins or 0.0)
    total = sum(by_group.values())
    return Estimate(
        len(units),
        deployments,
        jobs,
        max([total / checked.asked.parallel, *by_group.values()]),
        sum(seconds * work.sizes[group].gpus for group, seconds in by_group.items()) / 3600,
        "" if begins is not None else "without the begin of deployments, which is not known yet",
    )


def _run_s(cell: Cell, checked: Checked, ledger: Ledger) -> float | None:
    """Seconds of a repetition."""
    known = [
        one.seconds
        for (key, _), found in ledger.measured.items()
        if key == cell.key
        for one in found
        if one.seconds
    ]
    if known:
        return sum(known) / len(known)
    seconds, search = checked.recipes[cell.key].job.service.duration_seconds, checked.asked.search
    return seconds if seconds is None or search is None else seconds * search.runs


def _deploy_s(ledger: Ledger) -> float | None:
    known = [one.at - one.began for one in ledger.deployed.values()]
    return sum(known) / len(known) if known else None


# --- for people ----------------------------------------------------------------------------------


def plan_lines(work: Work, ledger: Ledger, found: Estimate) -> list[str]:
    """The plan in some lines."""
    checked, asked = work.checked, work.checked.asked
    what = "runs" if asked.search is None else f"searches of at most {asked.search.runs} runs"
    total = len(checked.cells) * asked.repetitions
    done = total - found.runs
    count, up = len(checked.groups), min(asked.parallel, len(checked.groups))
    rows = [
        ["runs", f"{len(checked.cells)} cells x {asked.repetitions} repetitions = {total} {what}"
         + (f"; {done} are there, {found.runs} are missing" if done else "")],
        ["deployments", f"{sum(found.deployments.values())} for {count} groups of cells, at most "
         f"{up} up at once: {found.jobs} jobs"],
        ["order", _order(asked.repetitions, count, up, asked.seed)],
        ["time", _time(found)],
        ["budget", _budget(work, ledger, found)],
    ]  # fmt: skip
    return [f"campaign {checked.name}", *(f"  {line}" for line in columns(rows))]


def _order(repetitions: int, groups: int, up: int, seed: int) -> str:
    whole = f"each of {repetitions} blocks has all cells once, in random order (seed {seed})"
    if groups <= up:
        return f"{whole}; deployments stay up from the first block to the last"
    return f"{whole}, a deployment's together; what is up at a block's end comes first in the next"


def _time(found: Estimate) -> str:
    if found.seconds is None or found.gpu_hours is None:
        return f"not known: {found.unknown}"
    about = f"about {format_time(math.ceil(found.seconds))} and {found.gpu_hours:.2f} GPU-hours"
    return f"{about}, {found.unknown}" if found.unknown else f"{about}, and what the queue takes"


def _budget(work: Work, ledger: Ledger, found: Estimate) -> str:
    budget = work.checked.asked.budget
    said = []
    if budget.gpu_hours is not None:
        used = ledger.gpu_seconds(max([at.at for at in ledger.stopped.values()], default=0)) / 3600
        said.append(
            _bound(f"{budget.gpu_hours:g} GPU-hours", used, found.gpu_hours, budget.gpu_hours)
        )
    if budget.jobs is not None:
        said.append(_bound(f"{budget.jobs} jobs", ledger.jobs, found.jobs, budget.jobs))
    return "; ".join(said) or "none"


def _bound(what: str, used: float, more: float | None, most: float) -> str:
    short = more is not None and used + more > most
    return f"at most {what}, {used:.4g} used{': not enough for all' if short else ''}"


def changes(before: Planned | None, now: Planned, ledger: Ledger) -> list[str]:
    """Say what of an earlier command's results does not count any more, and why; and what else the
    reader of the figures must know. `ledger`: as it was before."""
    if before is None:
        return []
    earlier = {cell.key: cell.fingerprint for cell in before.cells}
    changed = {c.key for c in now.cells if earlier.get(c.key, c.fingerprint) != c.fingerprint}
    lost = sum(1 for cell, _ in ledger.last() if cell in changed)
    said = []
    if lost:
        why = differences(before.conditions, now.conditions) or ["their recipe, load or seed"]
        said.append(
            f"{lost} repetitions of {len(changed)} cells were measured under other conditions and "
            f"do not count any more ({'; '.join(why)})"
        )
    new = [cell.key for cell in now.cells if cell.key not in earlier]
    if new and ledger.last():
        said.append(
            f"{len(new)} cells are new: they are measured later than the others of their blocks, "
            "so what has changed on the machines meanwhile looks like their effect"
        )
    return said


def cell_lines(work: Work, ledger: Ledger) -> list[str]:
    """All cells by deployment, and the order of each block; what is missing has no mark."""
    checked, missing = work.checked, Missing(ledger)
    lines = []
    for group in checked.groups:
        lines.append(f"deployment {group.id}: {group.words}")
        lines += [f"  {key}" for key in group.cells]
    for number, turns in enumerate(checked.design.blocks(), 1):
        lines.append(f"block {number}:")
        for turn in turns:
            order = [_marked(cell, missing.is_missing((cell, number))) for cell in turn.cells]
            lines.append(f"  {turn.group}: {'; '.join(order)}")
    return lines


def _marked(cell: str, missing: bool) -> str:
    return cell if missing else f"{cell} (is there)"
