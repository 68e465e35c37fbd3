"""What a campaign compares: cells of settings, and what each repetition of one came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

#: A value of one setting, as JSON has it.
Setting: TypeAlias = str | int | float | bool | None

#: `done`: its figures count. `invalid`: measured, but its figures must not be used. `failed`: there
#: are none.
State = Literal["done", "invalid", "failed"]


@dataclass(frozen=True)
class Cell:
    """One combination of what is varied: values by their paths ("job.service.num_parallel")."""

    settings: Mapping[str, Setting]

    @property
    def key(self) -> str:
        """Its name, the same in ledger, report and files: `num_parallel=4 rate=2.5`."""
        return " ".join(
            f"{path.rpartition('.')[2]}={self.settings[path]}" for path in self.settings
        )


def levels_of(cells: Sequence[Cell]) -> dict[str, list[Setting]]:
    """Return what each path has in these cells, in the order in which they come."""
    paths = dict.fromkeys(path for cell in cells for path in cell.settings)
    return {
        path: list(dict.fromkeys(c.settings[path] for c in cells if path in c.settings))
        for path in paths
    }


@dataclass(frozen=True)
class Observation:
    """One repetition of a cell: a run of the load generator, as one number for each figure."""

    cell: str
    #: Which block it is part of, from 1 on: each block holds all cells once.
    block: int
    state: State
    #: By their keys; seconds, tokens per second and so on, as in summary.json.
    figures: Mapping[str, float] = field(default_factory=dict)
    #: Name of the run's folder in output/benchmarks.
    run: str | None = None
    #: In a sentence, if it is not `done`.
    problem: str | None = None
    #: Its place in the whole campaign: 1 was measured first.
    order: int | None = None
    #: The group of cells that one deployment serves.
    group: str = ""
