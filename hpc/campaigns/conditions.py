"""What a campaign's ledger says of a plan: its cells, and what decides their results."""

from __future__ import annotations

import os
import time

from campaign.code import code_version
from campaign.units import Planned, PlannedCell
from hpc.campaigns.processes import process_of
from hpc.campaigns.reading import Checked
from hpc.campaigns.settings import KNOBS
from hpc.site import Site
from ledger.conditions import fingerprint


def planned_by(checked: Checked, site: Site, monitoring: bool) -> Planned:
    """The plan as the ledger has it, with the fingerprint of all that decides a cell's result and
    is known by now."""
    profile = fingerprint(site.model_dump(mode="json", by_alias=True))[:8]
    conditions = {
        "code version": code_version(),
        "site profile": f"{site.name} {profile}",
        "monitoring": "as the recipe says" if monitoring else "left out",
    }
    return Planned(
        at=time.time(),
        campaign=checked.given,
        repetitions=checked.asked.repetitions,
        cells=[
            PlannedCell(
                key=cell.key,
                settings=dict(cell.settings),
                group=checked.group_of[cell.key].id,
                fingerprint=fingerprint([conditions, *_decides(checked, cell.key)]),
            )
            for cell in checked.cells
        ],
        conditions=conditions,
        process=process_of(os.getpid()),
    )


def _decides(checked: Checked, cell: str) -> list[object]:
    """What of a campaign decides a cell's result: its deployment, its load, and the seed."""
    job = checked.group_of[cell].recipe.job.model_dump(mode="json", by_alias=True)
    service = {key: value for key, value in job["service"].items() if key not in KNOBS}
    load = dict(checked.recipes[cell].job.service.load)
    if checked.asked.slo is not None:
        load.setdefault("goodput", checked.asked.limits)
    search = checked.asked.search
    more = [] if search is None else [search.model_dump(mode="json")]
    return [{**job, "name": None, "service": service}, load, checked.asked.seed, *more]
