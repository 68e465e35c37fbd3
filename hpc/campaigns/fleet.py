"""The deployments of a campaign: begun, replaced and ended, each of it in the ledger."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from campaign.book import Book
from campaign.units import Deploying, Process, Stopped
from contracts.errors import OrchError, ServiceError
from contracts.files import FileError, make_folder, write_atomically
from hpc.campaigns.deploying import Deployer, Ended
from hpc.campaigns.grouping import Group
from hpc.campaigns.known import deployments_of
from hpc.campaigns.live import Live
from hpc.campaigns.processes import end
from hpc.console import Console
from hpc.deployments.records import Record, find_record
from hpc.deployments.refreshing import refresh
from hpc.endpoints import OutputDir
from ledger.conditions import differences

#: A group whose deployment has failed so often is not deployed again by the same command.
MOST_FAILURES = 2


@dataclass(frozen=True)
class Size:
    """What a group's deployment asks for: its jobs, and GPUs in all."""

    jobs: int
    gpus: int


class Fleet:
    """Deployments by their groups. Of a group it is used by one thread at a time."""

    def __init__(
        self,
        groups: Mapping[str, Group],
        sizes: Mapping[str, Size],
        book: Book,
        deployer: Deployer,
        output: OutputDir,
        console: Console,
    ) -> None:
        self._groups, self._sizes, self._book = groups, sizes, book
        self._deployer, self._output, self._console = deployer, output, console
        self._up: dict[str, Live] = {}
        self._failures: Counter[str] = Counter()
        self._last_failure: dict[str, str] = {}
        self._numbers = itertools.count(max(book.ledger.deploying, default=0) + 1)

    def get(self, group: str, seconds: float) -> Live:
        """A deployment that serves, with `seconds` left of its time if it can have so many.

        Raises Ended, ServiceError: it cannot be brought up.
        """
        live = self._up.get(group)
        if live is not None and live.seconds_left < seconds <= live.record.limit_s:
            self._tell(group, "its time limit is near: it is deployed again")
            self.end(group)
            live = None
        return live or self._deploy(group)

    def _deploy(self, group: str) -> Live:
        if self._failures[group] >= MOST_FAILURES:
            raise ServiceError(
                f"its deployment has failed {MOST_FAILURES} times, the last time: "
                f"{self._last_failure[group]}"
            )
        number = next(self._numbers)
        self._tell(group, f"deployment {number} is begun ({self._groups[group].words})")
        recipe = self._book.folder / "recipes" / f"{group}.json"
        make_folder(recipe.parent)
        write_atomically(
            recipe, self._groups[group].recipe.model_dump_json(by_alias=True, indent=2)
        )
        try:
            name = self._deployer.deploy(recipe, number, self._noting(group, number))
            live = Live(number, group, find_record(self._output.path, name), self._output)
        except Ended:
            self._note_stopped(group, number)
            raise
        except OrchError as error:
            self._failures[group] += 1
            self._last_failure[group] = error.message
            self._note_stopped(group, number, error.message)
            self._tell(group, f"deployment {number} has failed: {error.message}")
            raise ServiceError(f"its deployment has failed: {error.message}") from error
        self._up[group] = live
        self._note_up(live)
        return live

    def _noting(self, group: str, number: int) -> Callable[[Process], None]:
        def note(process: Process) -> None:
            size = self._sizes[group]
            self._book.add(
                Deploying(
                    at=time.time(),
                    group=group,
                    number=number,
                    gpus=size.gpus,
                    jobs=size.jobs,
                    process=process,
                )
            )

        return note

    def _note_up(self, live: Live) -> None:
        before, now = self._book.ledger.serving.get(live.group), live.entry()
        self._book.add(now)
        self._tell(live.group, f"{now.id} serves on {', '.join(now.nodes)}")
        if before is not None and before.fingerprint != now.fingerprint:
            for changed in differences(before.conditions, now.conditions):
                self._console.tell(
                    "WARNING", f"{changed}: what was measured before does not count any more"
                )

    # --- ends ---

    def lost(self, group: str, problem: str) -> None:
        """A deployment has ended under a run: end what is left of it."""
        self._tell(group, f"the deployment has ended: {problem}")
        self.end(group, problem)

    def end(self, group: str, problem: str | None = None) -> None:
        """End a group's deployment, if one is up. One that does not end is said, and left to
        `--stop`."""
        live = self._up.pop(group, None)
        if live is None:
            return
        try:
            live.stop()
        except OrchError as error:
            problem = error.message
            self._console.error(error.message)
        self._note_stopped(group, live.number, problem)
        self._tell(group, f"{live.record.id} is stopped")

    def end_all(self) -> None:
        """End all that are up. Raises the first FileError, once all have had their turn."""
        problems = []
        for group in list(self._up):
            try:
                self.end(group)
            except FileError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def _note_stopped(self, group: str, number: int, problem: str | None = None) -> None:
        self._book.add(Stopped(at=time.time(), group=group, number=number, problem=problem))

    # --- what an earlier command has left ---

    def take_up(self, wanted: Callable[[str], bool]) -> None:
        """Use the deployments that an earlier command has left, as far as they serve what is
        `wanted` now; end all others, and write their end down."""
        left = self._book.ledger.up
        for begun in left.values():
            end(begun.process)
        ours = deployments_of(self._output, self._book.folder.name)
        refresh(ours, self._output)
        numbers = {one.id: one.number for n, one in self._book.ledger.deployed.items() if n in left}
        for record in ours:
            if record.live:
                self._use_or_stop(record, numbers.get(record.id), wanted)
        up = {live.number for live in self._up.values()}
        for number, begun in left.items():
            if number not in up:
                self._note_stopped(begun.group, number)

    def _use_or_stop(
        self, record: Record, number: int | None, wanted: Callable[[str], bool]
    ) -> None:
        entry = self._book.ledger.deployed.get(number or 0)
        live = Live(number or 0, entry.group if entry else "", record, self._output)
        group = live.group
        if entry and record.state == "ready" and wanted(group) and group not in self._up:
            self._up[group] = live
            self._tell(group, f"{record.id} is up, and is used as it is")
            return
        self._console.tell("orch", f"{record.id} of an earlier command is stopped")
        live.stop()

    @property
    def groups_up(self) -> set[str]:
        """The groups whose deployments are up."""
        return set(self._up)

    def _tell(self, group: str, words: str) -> None:
        self._console.tell(group, words)
