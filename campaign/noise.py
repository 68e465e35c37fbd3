"""What of a figure's variation is the settings', what the blocks', and how much is left: the noise.

The model is that of a randomised block design: figure = cell + block + noise, so that what a block
has in common (the machine was slower that hour) is nobody's effect (R. A. Fisher, The Design of
Experiments, 1935; G. E. P. Box, J. S. Hunter, W. G. Hunter, Statistics for Experimenters, 2005,
chapter 4). A figure that is always above 0 is taken by its logarithm: effects on times and rates
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

import numpy as np

from campaign.cells import Observation
from loadgen.outputs.plot_data import Floats

_SHARED_FREEDOM = 1.0  # how much the noise of all cells says of that of each
_ROUNDING = 1e-12  # as a share of the values


@dataclass(frozen=True)
class Values:
    """A figure of all repetitions that are done: rows are cells, columns blocks, NaN is missing.
    `logarithms`: whether these are the figure's logarithms."""

    figure: str
    cells: Sequence[str]
    blocks: Sequence[int]
    values: Floats
    logarithms: bool

    @property
    def present(self) -> np.typing.NDArray[np.bool_]:
        """Which cells were measured in which blocks."""
        return ~np.isnan(self.values)

    def unscaled(self, value: float) -> float:
        """Return a value of this scale in the figure's own; a difference becomes a ratio."""
        return math.exp(value) if self.logarithms else value


@dataclass(frozen=True)
class Noise:
    """What is left beside cells and blocks: for each cell its variance and the degrees of freedom
    that this is known with; of all together `freedom`. `of_block`: each block's own effect."""

    variance: Mapping[str, float]
    known_with: Mapping[str, float]
    freedom: float
    of_block: Sequence[float]


def values_of(observations: Sequence[Observation], figure: str) -> Values:
    """Return a figure of those repetitions that are done and have it."""
    found = [
        (one.cell, one.block, one.figures[figure])
        for one in observations
        if one.state == "done" and math.isfinite(one.figures.get(figure, math.nan))
    ]
    cells = list(dict.fromkeys(cell for cell, _, _ in found))
    blocks = sorted({block for _, block, _ in found})
    logarithms = bool(found) and all(value > 0 for _, _, value in found)
    table = np.full((len(cells), len(blocks)), math.nan)
    for cell, block, value in found:
        table[cells.index(cell), blocks.index(block)] = math.log(value) if logarithms else value
    return Values(figure, cells, blocks, table, logarithms)


def fit(of: Values) -> Noise | None:
    """Return the noise by least squares; None if there is nothing to tell it by: one cell, one
    block, or too many repetitions missing."""
    rows, columns = np.nonzero(of.present)
    if not len(rows):
        return None
    design = np.zeros((len(rows), len(of.cells) + len(of.blocks)))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), len(of.cells) + columns] = 1
    inverse = np.linalg.pinv(design)
    fitted = inverse @ of.values[rows, columns]
    left = without_rounding(of, of.values[rows, columns] - design @ fitted)
    loose = 1 - np.einsum("ij,ji->i", design, inverse)  # of each residual, its share of freedom
    freedom = float(np.round(loose.sum()))
    if freedom < 1:
        return None
    own = np.bincount(rows, loose, len(of.cells))
    squares = np.bincount(rows, left**2, len(of.cells))
    known = own + _SHARED_FREEDOM
    variance = (squares + _SHARED_FREEDOM * squares.sum() / freedom) / known
    known = np.minimum(known, freedom)
    blocks = fitted[len(of.cells) :]
    return Noise(
        dict(zip(of.cells, variance.tolist(), strict=True)),
        dict(zip(of.cells, known.tolist(), strict=True)),
        freedom,
        (blocks - blocks.mean()).tolist(),
    )


def without_rounding(of: Values, differences: Floats) -> Floats:
    """Return differences of values, 0 where they are nothing but the computer's rounding."""
    scale = float(np.nanmax(np.abs(of.values)))
    return np.where(np.abs(differences) <= _ROUNDING * (scale + of.logarithms), 0.0, differences)
