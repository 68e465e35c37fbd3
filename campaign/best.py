"""The best cell under a service level objective, and which cells cannot be told apart from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from campaign.cells import Observation
from campaign.noise import fit, values_of
from campaign.statistics import LEVEL, Estimate, contrast, estimates

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Limit:
    """What a figure must be: `most` it may be, or `least`."""

    figure: str
    bound: float
    kind: Literal["most", "least"] = "most"

    def keeps(self, value: float) -> bool:
        """Whether a value keeps it."""
        return value <= self.bound if self.kind == "most" else value >= self.bound


@dataclass(frozen=True)
class Best:
    """The cell with the best estimate of a figure among those whose estimates keep all limits.
    `level_with`: those of them that may be the best as well. `unsure`: limits that the best cell's
    own interval does not keep. `out`: cells that miss a limit, with the first that they miss."""

    figure: str
    cell: Estimate | None
    level_with: Sequence[str]
    unsure: Sequence[Limit]
    out: Sequence[tuple[str, Limit]]


def best(
    observations: Sequence[Observation],
    figure: str,
    better: Better,
    limits: Sequence[Limit] = (),
) -> Best:
    """Return the best cell. The best in truth of those that keep the limits is it or one of
    `level_with` in at least 95 % of campaigns: a cell is ruled out if some other one is shown to be
    better, at a level that is shared among all others (multiple comparisons with the best: J. C.
    Hsu, Ann. Statist. 9, 1981; here with Bonferroni's bound)."""
    of_limits = {
        limit: {one.cell: one for one in estimates(observations, limit.figure)} for limit in limits
    }
    kept, out = [], []
    for estimate in estimates(observations, figure):
        missed = [
            limit
            for limit, found in of_limits.items()
            if estimate.cell not in found or not limit.keeps(found[estimate.cell].value)
        ]
        if missed:
            out.append((estimate.cell, missed[0]))
        else:
            kept.append(estimate)
    if not kept:
        return Best(figure, None, [], [], out)
    first = (max if better == "higher" else min)(kept, key=lambda one: one.value)
    worse = {first.cell, *_worse(observations, figure, better, kept)}
    level = [one.cell for one in kept if one.cell not in worse]
    unsure = [limit for limit, found in of_limits.items() if not _sure(limit, found[first.cell])]
    return Best(figure, first, level, unsure, out)


def _worse(
    observations: Sequence[Observation], figure: str, better: Better, kept: Sequence[Estimate]
) -> Iterator[str]:
    """The cells that some other is shown to be better than."""
    values = values_of(observations, figure)
    noise, keys = fit(values), [one.cell for one in kept]
    sign = 1 if better == "higher" else -1
    for cell in keys if noise is not None else ():
        for other in [key for key in keys if key != cell]:
            found = noise and contrast(values, noise, [(other, cell)], (other, cell))
            if found and sign * found.value > found.half_width(LEVEL / (len(keys) - 1)):
                yield cell
                break


def _sure(limit: Limit, of: Estimate) -> bool:
    end = of.high if limit.kind == "most" else of.low
    return end is not None and limit.keeps(end)
