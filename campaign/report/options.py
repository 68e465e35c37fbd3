"""What a report may be asked for beside its folder. It loads nothing that draws."""

from __future__ import annotations

import re
from pathlib import Path

from campaign.units import LEDGER
from contracts.errors import UsageError


def part_of(text: str) -> float:
    """Return what `5%`, `5 %` or `0.05` says as a part of one. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
    value = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= value < 1:
        raise UsageError(f"--fail-on-regression {text!r} is no part; give a percentage such as 5%.")
    return value


def campaign_of(name: Path, folder: Path) -> Path:
    """Return the folder of a campaign that is named by it, or as the one beside `folder`. Raises
    UsageError if there is none."""
    beside = folder.resolve().parent / name
    found = beside if not name.is_dir() and beside.is_dir() else name
    if not (found / LEDGER).is_file():
        raise UsageError(
            f"{found} holds no campaign (no {LEDGER}); name a folder of output/campaigns."
        )
    return found


def check(against: Path | None, most: str | None, folder: Path) -> None:
    """Raise UsageError if this cannot be asked of the campaign in `folder`."""
    if most is not None:
        part_of(most)
        if against is None:
            raise UsageError(
                "--fail-on-regression is for --against OLD alone; name another campaign."
            )
    if against is not None:
        campaign_of(against, folder)
