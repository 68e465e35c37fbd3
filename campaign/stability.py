"""Whether the machine stayed the same over the blocks of a campaign.

Each block has all cells, so what differs between blocks is the machine's. A block is the unit here:
its effect beside the cells (campaign/noise.py), a straight line through them, Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campaign.cells import Observation
from campaign.noise import Values, fit, values_of
from campaign.statistics import LEVEL, Interval
from loadgen.compare.intervals import t_quantile

#: Less is not worth a warning, however sure it is: blocks take it out.
WORTH_SAYING = 0.02
_FEWEST_BLOCKS = 3


@dataclass(frozen=True)
class Stability:
    """A figure over the blocks. `blocks`: each one's number, and what the figure was in it as a
    ratio to the mean block (of a figure that is not always above 0: the difference), cells taken
    out. `change`: from the first block to the last, likewise; None with fewer than three blocks.
    `warning`: in a sentence, if the machine drifted."""

    figure: str
    blocks: Sequence[tuple[int, float]]
    change: Interval | None
    warning: str | None


def stability(observations: Sequence[Observation], figures: Sequence[str]) -> list[Stability]:
    """Return each figure over the blocks; the warnings are corrected for their number, so that one
    campaign of twenty has a wrong one at most. A figure that cannot be told is left out."""
    found = []
    for figure in figures:
        values = values_of(observations, figure)
        if (noise := fit(values)) is None or len(values.blocks) < 2:
            continue
        effects = [values.unscaled(effect) for effect in noise.of_block]
        change = _change(values, noise.of_block, len(figures))
        found.append(
            Stability(
                figure,
                list(zip(values.blocks, effects, strict=True)),
                change,
                _warning(values, change),
            )
        )
    return found


def _change(of: Values, effects: Sequence[float], family: int) -> Interval | None:
    """The line's change from the first block to the last."""
    if len(effects) < _FEWEST_BLOCKS:
        return None
    x, y = np.array(of.blocks, dtype=np.float64), np.array(effects)
    x -= x.mean()
    squares = float((x**2).sum())
    slope = float((x * y).sum()) / squares
    freedom = len(effects) - 2
    spread = math.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / squares)
    half = t_quantile(freedom, LEVEL / 2 / family) * spread
    length = float(x[-1] - x[0])
    return Interval(*(of.unscaled((slope + by) * length) for by in (0, -half, half)))


def _warning(of: Values, change: Interval | None) -> str | None:
    none = 1.0 if of.logarithms else 0.0
    if change is None or change.low <= none <= change.high:
        return None
    if of.logarithms:
        if abs(change.value - 1) < WORTH_SAYING:
            return None
        much = f"{abs(change.value - 1):.0%} ({_percent(change.low)} to {_percent(change.high)})"
    else:
        much = f"{abs(change.value):.3g} ({change.low:+.3g} to {change.high:+.3g})"
    word = "rose" if change.value > none else "fell"
    return (
        f"The machine drifted: {of.figure} {word} by {much} from the first block to the last. "
        "Cells are compared within blocks, so this is taken for no setting's effect; figures of "
        "single cells have it in them."
    )


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.0%}"
