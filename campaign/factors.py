"""What was varied: each level of a factor against another one, by the cells that tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from campaign.cells import Cell, Setting, levels_of

#: Cells that differ in one thing alone: (the one, the other).
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Factor:
    """A level against another one, by the cells that differ in nothing else."""

    factor: str
    level: Setting
    reference: Setting
    pairs: Pairs

    @property
    def names(self) -> tuple[str, str]:
        """The two levels as cells' names have them."""
        short = self.factor.rpartition(".")[2]
        return f"{short}={self.level}", f"{short}={self.reference}"


def factors(cells: Sequence[Cell], baseline: str | None) -> Iterator[Factor]:
    """Return each level of each factor against the baseline's, or else the first one; nothing if a
    single factor is varied: then comparisons of cells say all."""
    levels = levels_of(cells)
    varied = [path for path in levels if len(levels[path]) > 1]
    of_baseline = next((cell.settings for cell in cells if cell.key == baseline), {})
    for path in varied if len(varied) > 1 else ():
        reference = of_baseline.get(path, levels[path][0])
        for level in levels[path]:
            if level != reference and (pairs := _matched(cells, path, level, reference)):
                yield Factor(path, level, reference, pairs)


def _matched(cells: Sequence[Cell], path: str, level: Setting, reference: Setting) -> Pairs:
    by_settings = {frozenset(cell.settings.items()): cell.key for cell in cells}
    changed = [
        (cell.key, by_settings.get(frozenset({**cell.settings, path: reference}.items())))
        for cell in cells
        if cell.settings.get(path) == level
    ]
    return [(one, other) for one, other in changed if other is not None]
