"""What of a figure's variation is the settings', what the blocks', and how much is left: the noise.

The model is that of a randomised block design: figure = cell + block + noise, so that what a block
has in common (the machine was slower that hour) is nobody's effect (R. A. Fisher, The Design of
Experiments, 1935; G. E. P. Box, J. S. Hunter, W. G. Hunter, Statistics for Experimenters, 2005,
chapter 4). Cells that one deployment serves are measured one after another in each block, and share
how it came up this time: in that they are one repetition and not many (split plots: F. Yates, J. R.
Stat. Soc. Suppl. 2, 1935). So there are two noises: of groups of cells within blocks, and of cells
within those. A figure that is always above 0 is taken by its logarithm: effects on times and rates
are factors, and so is noise.

Cells need not be equally noisy: one client is steadier than 256. So each cell has a variance of its
own, as if one more degree of freedom had shown that of all cells. With few repetitions a variance
of its own alone is worth little, and one for all is wrong if they differ. Simulated (300 campaigns;
4 cells, 5 repetitions, 5 figures; 15 comparisons), campaigns with a false alarm and how often a
difference of 10 % is found:

| degrees of freedom from all | noise of 3 % in each | and 1.5 %, in one cell 6 % |
|---|---|---|
| none: each by its own alone | 2.0 %, 48 % | 1.3 %, 84 % |
| 1 | 1.3 %, 71 % | 3.3 %, 94 % |
| 2 | 3.0 %, 86 % | 10.7 %, 93 % |
| all: one variance for all | 4.0 %, 86 % | 19.0 %, 85 % |

Of 12 cells it is the same: 1 keeps to 5 % in all that was tried, 2 and more do not. Variances that
are drawn together by how much they differ (G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004) had
16.7 % in the last column: there are too few cells to tell how much they differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from campaign.cells import Observation
from loadgen.outputs.plot_data import Floats

_SHARED_FREEDOM = 1.0  # how much the noise of all cells says of that of each
_ROUNDING = 1e-12  # as a share of the values
_MOST = 500.0  # of logarithms: beyond it nothing is known, and beyond 709 there is no number


@dataclass(frozen=True)
class Values:
    """A figure of all repetitions that are done: rows are cells, columns blocks, NaN is missing.
    `groups`: whose deployment serves each cell; `logarithms`: whether these are the figure's."""

    figure: str
    cells: Sequence[str]
    groups: Sequence[str]
    blocks: Sequence[int]
    values: Floats
    logarithms: bool

    @cached_property
    def present(self) -> np.typing.NDArray[np.bool_]:
        """Which cells were measured in which blocks."""
        return ~np.isnan(self.values)

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """The row of each cell."""
        return {cell: row for row, cell in enumerate(self.cells)}

    @cached_property
    def rows_of(self) -> Mapping[str, list[int]]:
        """The rows of the cells of each group."""
        found: dict[str, list[int]] = {}
        for row, name in enumerate(self.groups):
            found.setdefault(name, []).append(row)
        return found

    @cached_property
    def group_numbers(self) -> np.typing.NDArray[np.int64]:
        """Of each row the number of its group."""
        numbers = {group: number for number, group in enumerate(self.rows_of)}
        return np.array([numbers[group] for group in self.groups])

    @cached_property
    def _scale(self) -> float:
        return float(np.nanmax(np.abs(self.values))) + self.logarithms

    def unscaled(self, value: float) -> float:
        """Return a value of this scale in the figure's own; a difference becomes a ratio."""
        return math.exp(min(max(value, -_MOST), _MOST)) if self.logarithms else value

    def without_rounding(self, differences: Floats) -> Floats:
        """Return differences of values, 0 if they are nothing but the computer's rounding."""
        return np.where(np.abs(differences) <= _ROUNDING * self._scale, 0.0, differences)


@dataclass(frozen=True)
class Stratum:
    """A noise: its variance for each of those that have it, the degrees of freedom with which that
    is known, and those of all together."""

    variance: Floats
    known_with: Floats
    freedom: float


@dataclass(frozen=True)
class Noise:
    """What is left beside cells and blocks: of each cell (in the order of the values) within its
    group and block, and of each group within blocks. `of_block`: each block's own effect."""

    groups: Sequence[str]
    of_cell: Stratum
    of_group: Stratum
    of_block: Sequence[float]


def values_of(observations: Sequence[Observation], figure: str) -> Values:
    """Return a figure of those repetitions that are done and have it."""
    found = [
        (one.cell, one.block, one.figures[figure])
        for one in observations
        if one.state == "done" and math.isfinite(one.figures.get(figure, math.nan))
    ]
    group_of = {one.cell: one.group for one in observations}
    row = {cell: n for n, cell in enumerate(dict.fromkeys(cell for cell, _, _ in found))}
    column = {block: n for n, block in enumerate(sorted({block for _, block, _ in found}))}
    logarithms = bool(found) and all(value > 0 for _, _, value in found)
    table = np.full((len(row), len(column)), math.nan)
    for cell, block, value in found:
        table[row[cell], column[block]] = math.log(value) if logarithms else value
    return Values(figure, [*row], [group_of[cell] for cell in row], [*column], table, logarithms)


def fit(of: Values) -> Noise | None:
    """Return the noise by least squares; None if there is nothing to tell it by: no values, a
    single cell or block, or too many repetitions that are missing."""
    if not of.cells:
        return None
    groups = list(of.rows_of)
    squares, own = np.zeros(len(of.cells)), np.zeros(len(of.cells))
    means = np.full((len(groups), len(of.blocks)), math.nan)
    for number, group in enumerate(groups):
        rows = of.rows_of[group]
        squares[rows], own[rows], means[number] = _two_way(of, of.values[rows])
    group_squares, group_own, of_block = _two_way(of, means)
    of_cell, of_group = _stratum(squares, own), _stratum(group_squares, group_own)
    if max(of_cell.freedom, of_group.freedom) < 1:
        return None
    return Noise(groups, of_cell, of_group, (of_block - of_block.mean()).tolist())


def _two_way(of: Values, table: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit rows and columns to what is there of a table. Return for each row the sum of the squares
    that are left and its share of the degrees of freedom, and the effect of each column."""
    height, width = table.shape
    if not np.isnan(table).any():
        left = table - table.mean(axis=1)[:, None] - table.mean(axis=0) + table.mean()
        loose = (1 - 1 / height) * (1 - 1 / width)
        squares = (of.without_rounding(left) ** 2).sum(axis=1)
        return squares, np.full(height, width * loose), table.mean(axis=0)
    rows, columns = np.nonzero(~np.isnan(table))
    design = np.zeros((len(rows), height + width))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), height + columns] = 1
    inverse = np.linalg.pinv(design)
    fitted = inverse @ table[rows, columns]
    remains = of.without_rounding(table[rows, columns] - design @ fitted)
    shares = 1 - np.einsum("ij,ji->i", design, inverse)
    effects = np.full(width, math.nan)
    effects[columns] = fitted[height + columns]
    return (
        np.bincount(rows, remains**2, height).astype(np.float64),
        np.bincount(rows, shares, height).astype(np.float64),
        effects,
    )


def _stratum(squares: Floats, own: Floats) -> Stratum:
    freedom = float(np.round(own.sum()))
    known = own + _SHARED_FREEDOM
    pooled = float(squares.sum()) / max(1.0, freedom)
    variance = (squares + _SHARED_FREEDOM * pooled) / known
    return Stratum(variance, np.minimum(known, max(1.0, freedom)), freedom)
