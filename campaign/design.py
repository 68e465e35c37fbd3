"""Which cells a campaign has, and in which order they are measured.

A block is a repetition of all cells. Cells that one deployment can serve are a group. Each block
measures its groups in random order, and the cells of a group in random order, so that the drift of
a machine over hours is a difference between blocks and not between cells (Fisher, The Design of
Experiments, 1935, chapter IV). Up to `parallel` deployments are up at once. Those that are up at a
block's end come first in the next one, and are not begun again: with G groups and R blocks this
takes G + (R - 1) max(0, G - parallel) deployments, and no order in which each block is whole takes
fewer. For two groups and one deployment at a time it is A B, B A, A B, …, in which a linear drift
cancels out.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from campaign.cells import Cell, Setting


def product(vary: Mapping[str, Sequence[Setting]]) -> list[Cell]:
    """Return all combinations of values, the last path's changing fastest."""
    return [
        Cell(dict(zip(vary, values, strict=True))) for values in itertools.product(*vary.values())
    ]


def matches(cell: Cell, part: Mapping[str, Setting]) -> bool:
    """Whether a cell has all these settings."""
    return all(path in cell.settings and same(cell.settings[path], part[path]) for path in part)


def same(a: Setting, b: Setting) -> bool:
    """Whether two values are one for JSON: 1 and 1.0 are, true and 1 are not."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


@dataclass(frozen=True)
class Turn:
    """A group's turn in a block, and its cells in their order."""

    block: int
    group: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Design:
    """The whole order. `groups`: the keys of the cells of each group, by its name."""

    groups: Mapping[str, Sequence[str]]
    repetitions: int
    parallel: int
    seed: int

    @property
    def deployments(self) -> int:
        """How many are begun, if none ends by itself."""
        count = len(self.groups)
        return count + (self.repetitions - 1) * max(0, count - self.parallel)

    def blocks(self) -> Iterator[list[Turn]]:
        """Yield the turns of each block in their order; of blocks that are added later, too."""
        for number, order in enumerate(itertools.islice(self._orders(), self.repetitions), 1):
            shuffled = random.Random(f"{self.seed} cells {number}")
            yield [Turn(number, group, _in_order(self.groups[group], shuffled)) for group in order]

    def _orders(self) -> Iterator[list[str]]:
        """The groups of each block: first those that are up, then the others."""
        up: list[str] = []
        for number in itertools.count(1):
            shuffled = random.Random(f"{self.seed} groups {number}")
            rest = [group for group in self.groups if group not in up]
            order = shuffled.sample(up, len(up)) + shuffled.sample(rest, len(rest))
            yield order
            up = order[-self.parallel :]


def _in_order(cells: Sequence[str], shuffled: random.Random) -> tuple[str, ...]:
    return tuple(shuffled.sample(cells, len(cells)))
