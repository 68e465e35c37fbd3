"""The ledger of a campaign: what was planned, deployed and measured, in the order in which it was.

`ledger.jsonl` in the campaign's folder holds an entry a line. An observation counts if it was made
under the conditions that the last plan and the last deployment of its group say; what was found
under others stays in the file and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from campaign.cells import Cell, Observation, Setting, State
from contracts.files import FileError
from contracts.json_object import JsonObject
from contracts.validation import first_problem
from ledger.journal import entries

LEDGER = "ledger.jsonl"


class _Entry(BaseModel):
    """`at`: seconds since the epoch. Keys of later versions are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    at: float


class Process(BaseModel):
    """A process of a machine: `started` tells it from a later one of the same number."""

    model_config = ConfigDict(frozen=True)
    host: str
    pid: int
    started: str


class PlannedCell(BaseModel):
    """A cell: its settings by their paths, the group of cells that one deployment serves, and the
    fingerprint of all that decides its result and is known beforehand."""

    model_config = ConfigDict(frozen=True)
    key: str
    settings: dict[str, Setting]
    group: str
    fingerprint: str


class Planned(_Entry):
    """The command was given. `campaign`: the file's content; `repetitions`: blocks that are wanted;
    `process`: who carries it out; `conditions`: what holds for all cells, in words."""

    entry: Literal["planned"] = "planned"
    campaign: JsonObject
    repetitions: int
    cells: list[PlannedCell]
    conditions: dict[str, str]
    process: Process


class Deploying(_Entry):
    """A deployment of a group is begun by a process; `number`: 1 for the first of the campaign;
    `gpus`: in all; `jobs`: how many it has."""

    entry: Literal["deploying"] = "deploying"
    group: str
    number: int
    gpus: int
    jobs: int
    process: Process


class Deployed(_Entry):
    """It serves. `id`: of its record; `began`: when it got its nodes, in seconds since the epoch;
    `limit_s`: after which its jobs end, if known; `nodes`: of its engines; `conditions`: what
    decides results and only it can say."""

    entry: Literal["deployed"] = "deployed"
    group: str
    number: int
    id: str
    began: float
    limit_s: float | None = None
    nodes: list[str]
    conditions: dict[str, str]
    fingerprint: str


class Stopped(_Entry):
    """It has ended, or never served; `problem`: why, if nobody meant it to."""

    entry: Literal["stopped"] = "stopped"
    group: str
    number: int
    problem: str | None = None


class Started(_Entry):
    """A run was asked for, of a deployment with that fingerprint; `load`: if it is of a search, in
    requests per second or clients."""

    entry: Literal["started"] = "started"
    cell: str
    block: int
    run: str
    attempt: int
    number: int
    planned: str
    deployed: str
    load: float | None = None


class Probed(_Entry):
    """A run of a search: at that load (requests per second, or clients) `good` of `of` were within
    the SLO."""

    entry: Literal["probed"] = "probed"
    cell: str
    block: int
    planned: str
    deployed: str
    run: str
    load: float
    good: int
    of: int


class Measured(_Entry):
    """What came of a repetition. `planned` and `deployed`: fingerprints of its conditions; the
    second is empty if it never came so far. `seconds`: how long the run took."""

    entry: Literal["measured"] = "measured"
    cell: str
    block: int
    attempt: int
    state: State
    planned: str
    deployed: str = ""
    run: str | None = None
    figures: dict[str, float] = Field(default_factory=dict)
    problem: str | None = None
    nodes: list[str] = Field(default_factory=list)
    seconds: float | None = None


Entry = Planned | Deploying | Deployed | Stopped | Started | Probed | Measured
_ENTRIES: TypeAdapter[Entry] = TypeAdapter(
    Annotated[Entry, Field(discriminator="entry")], config=ConfigDict(defer_build=True)
)


def as_json(entry: Entry) -> JsonObject:
    """Return an entry as the journal takes it."""
    return entry.model_dump(mode="json", exclude_none=True)


#: A repetition of a cell: its key, and the block.
Unit: TypeAlias = tuple[str, int]


@dataclass
class Ledger:
    """All of a campaign's ledger, and what of it counts."""

    planned: Planned | None = None
    #: By their groups: the last one that served.
    serving: dict[str, Deployed] = field(default_factory=dict)
    deploying: dict[int, Deploying] = field(default_factory=dict)
    deployed: dict[int, Deployed] = field(default_factory=dict)
    stopped: dict[int, Stopped] = field(default_factory=dict)
    started: dict[Unit, list[Started]] = field(default_factory=dict)
    probed: dict[Unit, list[Probed]] = field(default_factory=dict)
    measured: dict[Unit, list[Measured]] = field(default_factory=dict)
    _cells: dict[str, PlannedCell] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """Add an entry."""
        if isinstance(entry, Planned):
            self.planned = entry
            self._cells = {cell.key: cell for cell in entry.cells}
        elif isinstance(entry, Deploying):
            self.deploying[entry.number] = entry
        elif isinstance(entry, Deployed):
            self.deployed[entry.number] = self.serving[entry.group] = entry
        elif isinstance(entry, Stopped):
            self.stopped[entry.number] = entry
        elif isinstance(entry, Started):
            self.started.setdefault((entry.cell, entry.block), []).append(entry)
        elif isinstance(entry, Probed):
            self.probed.setdefault((entry.cell, entry.block), []).append(entry)
        else:
            self.measured.setdefault((entry.cell, entry.block), []).append(entry)

    @property
    def cells(self) -> list[Cell]:
        """The cells of the last plan, in its order."""
        return [Cell(planned.settings) for planned in self._cells.values()]

    def group_of(self, cell: str) -> str:
        """Return the group of a cell of the last plan."""
        return self._cells[cell].group

    def counts(self, entry: Started | Probed | Measured) -> bool:
        """Whether it was made under the conditions of now."""
        cell = self._cells.get(entry.cell)
        if cell is None or cell.fingerprint != entry.planned:
            return False
        now = self.serving.get(cell.group)
        return now is None or not entry.deployed or now.fingerprint == entry.deployed

    def tries(self, unit: Unit) -> list[Measured]:
        """What was found of a repetition that counts, in the order in which it was."""
        return [one for one in self.measured.get(unit, ()) if self.counts(one)]

    def probes(self, unit: Unit) -> list[Probed]:
        """The runs of a repetition's search that count, in the order in which they were."""
        return [one for one in self.probed.get(unit, ()) if self.counts(one)]

    def last(self) -> dict[Unit, Measured]:
        """What counts of each repetition: the last that was found."""
        return {unit: found[-1] for unit in self.measured if (found := self.tries(unit))}

    def open_run(self, unit: Unit) -> Started | None:
        """The last run of a repetition, if its end is not in the ledger."""
        begun = self.started.get(unit)
        known = {one.run for one in self.measured.get(unit, ())}
        known |= {one.run for one in self.probed.get(unit, ())}
        return begun[-1] if begun and begun[-1].run not in known else None

    @property
    def wanted(self) -> list[Unit]:
        """All repetitions of the last plan."""
        blocks = range(1, self.planned.repetitions + 1) if self.planned else ()
        return [(cell, block) for block in blocks for cell in self._cells]

    @property
    def up(self) -> dict[int, Deploying]:
        """Deployments that were begun, and of which nobody has written down the end."""
        return {n: one for n, one in self.deploying.items() if n not in self.stopped}

    def gpu_seconds(self, now: float) -> float:
        """What all deployments that served have had of GPUs up to `now`, without the queue: none
        after its time limit, however late somebody has seen that it had ended."""
        ends = {number: one.at for number, one in self.stopped.items()}
        seconds = {
            number: min(ends.get(number, now) - one.began, one.limit_s or math.inf)
            for number, one in self.deployed.items()
        }
        return sum(self.deploying[number].gpus * max(0.0, s) for number, s in seconds.items())

    @property
    def jobs(self) -> int:
        """How many jobs all deployments have had."""
        return sum(one.jobs for one in self.deploying.values())


def read(folder: Path) -> Ledger:
    """Return the ledger of a campaign's folder; an empty one if there is none. Raises FileError."""
    found = Ledger()
    for entry in _read(folder / LEDGER):
        found.take(entry)
    return found


def _read(path: Path) -> Iterator[Entry]:
    for number, line in enumerate(entries(path), 1):
        try:
            yield _ENTRIES.validate_python(line)
        except ValidationError as error:
            raise FileError(
                f"line {number} of {path} is none of a campaign's ({first_problem(error)}); put "
                "the file back as it was, or move its folder away to begin again."
            ) from error


def observations(folder: Path) -> list[Observation]:
    """Return what counts of each repetition of a campaign, in the order in which it was measured.
    Raises FileError."""
    found = read(folder)
    in_time = sorted(found.last().values(), key=lambda one: one.at)
    return [
        Observation(
            cell=one.cell,
            block=one.block,
            state=one.state,
            figures=one.figures,
            run=one.run,
            problem=one.problem,
            order=order,
            group=found.group_of(one.cell),
        )
        for order, one in enumerate(in_time, 1)
    ]
