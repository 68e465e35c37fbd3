"""The campaigns of an output directory: how they stand, and how one is ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from campaign.units import LEDGER, Ledger, read
from contracts.errors import OrchError, UsageError
from engines.json_values import part_of, text_of
from hpc.campaigns.grouping import is_name_of
from hpc.campaigns.processes import end, runs
from hpc.console import columns
from hpc.deployments.records import Record, load_records
from hpc.endpoints import OutputDir
from ledger.journal import Journal, JournalInUse


def deployments_of(output: OutputDir, name: str) -> list[Record]:
    """The records of a campaign's deployments that say that they live."""
    return [record for record in load_records(output.path) if record.live and _is_of(name, record)]


def _is_of(name: str, record: Record) -> bool:
    job = part_of(record.recipe, "job") if isinstance(record.recipe, dict) else {}
    return is_name_of(name, text_of(job, "name") or "")


def end_command(output: OutputDir, name: str) -> bool:
    """End the command that carries a campaign out on this machine, if there is one, and wait until
    it has stopped its deployments; whether there was one. Raises UsageError if it is elsewhere."""
    folder = output.path / "campaigns" / name
    planned = read(folder).planned
    if planned is not None and runs(planned.process):
        end(planned.process)
        return True
    try:
        Journal(folder / LEDGER).close()
    except JournalInUse as error:
        at = f"{planned.process.host}, process {planned.process.pid}" if planned else "another one"
        raise UsageError(
            f"campaign {name} is carried out on another machine ({at}), which would deploy again: "
            "end it there, by Ctrl-C or kill."
        ) from error
    return False


def campaign_lines(output: OutputDir) -> list[str]:
    """A line for each campaign; none if there is none."""
    live = [record for record in load_records(output.path) if record.live]  # once for all
    rows = [["campaign", "state", "runs", "failed", "not valid", "running deployments"]]
    for path in sorted((output.path / "campaigns").glob(f"*/{LEDGER}")):
        rows.append(_row(live, path.parent))
    return columns(rows) if len(rows) > 1 else []


def _row(live: Sequence[Record], folder: Path) -> list[str]:
    try:
        ledger = read(folder)
    except OrchError as error:
        return [folder.name, error.message, "-", "-", "-", "-"]
    wanted = set(ledger.wanted)
    states = Counter(one.state for unit, one in ledger.last().items() if unit in wanted)
    up = [record.id for record in live if _is_of(folder.name, record)]
    return [
        folder.name,
        _state(ledger, sum(states.values()), len(wanted)),
        f"{states['done']} of {len(wanted)}",
        str(states["failed"]),
        str(states["invalid"]),
        ", ".join(up) or "-",
    ]


def _state(ledger: Ledger, measured: int, wanted: int) -> str:
    if ledger.planned is not None and runs(ledger.planned.process):
        return "running"
    return "finished" if measured == wanted else "not finished"
