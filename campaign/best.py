"""The best cell under a service level objective, and which cells cannot be told apart from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from campaign.cells import Observation
from campaign.noise import Noise, Values, fit, values_of
from campaign.statistics import LEVEL, Estimate, contrast, estimates

Better = Literal["higher", "lower"]
_ALMOST = 0.999  # leaves room for rounding


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
    values, sign = values_of(observations, figure), 1 if better == "higher" else -1
    noise, rows = fit(values), [values.row_of[one.cell] for one in kept]
    if noise is None or len(rows) < 2:
        return
    tail = LEVEL / (len(rows) - 1)
    for row in rows:
        cell = values.cells[row]
        for other in _perhaps_better(values, noise, row, rows, sign, tail):
            found = contrast(values, noise, [(other, cell)], (other, cell))
            if found and sign * found.value > found.half_width(tail):
                yield cell
                break


def _perhaps_better(
    of: Values, noise: Noise, row: int, rows: Sequence[int], sign: int, tail: float
) -> list[str]:
    """Those of `rows` that may be shown to be better than one, likely ones first: their difference
    is more than it would need to be if all of the noise were known, and that were what two cells of
    a group have, or two groups. A thousand equal cells have half a million pairs."""
    groups, mine = of.group_numbers[rows], of.group_numbers[row]
    both = of.present[rows] & of.present[row]
    blocks = np.maximum(both.sum(axis=1), 1)
    by = sign * np.where(both, of.values[rows] - of.values[row], 0.0).sum(axis=1) / blocks
    of_cells, of_groups = noise.of_cell.variance[rows], noise.of_group.variance[groups]
    alike = of_cells + noise.of_cell.variance[row]
    least = np.where(groups == mine, alike, of_groups + noise.of_group.variance[mine]) / blocks
    needed = _ALMOST * NormalDist().inv_cdf(1 - tail) * np.sqrt(least)
    found = np.flatnonzero((by > needed) & (np.array(rows) != row))
    return [of.cells[rows[n]] for n in found[np.argsort(-by[found])].tolist()]


def _sure(limit: Limit, of: Estimate) -> bool:
    end = of.high if limit.kind == "most" else of.low
    return end is not None and limit.keeps(end)
