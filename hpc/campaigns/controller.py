"""The campaign itself: block by block, up to `parallel` deployments side by side."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from campaign.book import Book
from campaign.design import Turn
from campaign.missing import Missing, kept, of_use
from campaign.units import Unit
from contracts.errors import ServiceError
from hpc.campaigns.deploying import Ended
from hpc.campaigns.fleet import Fleet
from hpc.campaigns.repetitions import Repetitions, Work
from hpc.console import Console
from hpc.following.job_watch import JobEnded

#: A pass more measures what a deployment of other conditions has made missing.
MOST_PASSES = 3


class Controller:
    """Carries a campaign out, as far as it is not done."""

    def __init__(
        self, work: Work, book: Book, fleet: Fleet, console: Console, stop: threading.Event
    ) -> None:
        self._work, self._book, self._fleet = work, book, fleet
        self._stop = stop
        self._repetitions = Repetitions(work, book, console, stop)
        self._design = work.checked.design
        self._missing = Missing(book.ledger)
        self._slots = threading.Semaphore(self._design.parallel)
        self._holding: set[str] = set()
        #: Why nothing more is begun: the budget is used up; None: it is not.
        self.spent: str | None = None

    def run(self) -> None:
        """Measure what is missing. Deployments are ended at the end, however it comes."""
        self._repetitions.take_up()
        try:
            self._take_up_deployments()
            for _ in range(MOST_PASSES):
                blocks = self._blocks()
                if self._over() or not blocks:
                    return
                for turns, after in zip(blocks, [*blocks[1:], []], strict=True):
                    self._block(turns, after)
        finally:
            self._fleet.end_all()

    # --- what an earlier command has left ---

    def _take_up_deployments(self) -> None:
        blocks = [*self._blocks(), [], []]
        wanted = of_use(blocks[0], blocks[1], self._design.parallel)
        self._fleet.take_up(lambda group: group in wanted)
        for group in self._fleet.groups_up:
            self._slots.acquire()
            self._holding.add(group)

    # --- a block ---

    def _blocks(self) -> list[list[Turn]]:
        """What is missing of each block of which something is."""
        return [found for turns in self._design.blocks() if (found := self._missing.turns(turns))]

    def _block(self, turns: Sequence[Turn], after: Sequence[Turn]) -> None:
        todo, after = self._missing.turns(turns), self._missing.turns(after)
        keep = kept(todo, after, self._design.parallel)
        # No other may be up: it would keep one from its turn.
        for group in self._holding.difference(of_use(todo, after, self._design.parallel)):
            self._release(group)
        running: list[Future[None]] = []
        with ThreadPoolExecutor(self._design.parallel) as pool:
            for turn in todo:
                if turn.group not in self._holding:
                    self._slots.acquire()
                    self._holding.add(turn.group)
                if self._over():
                    break
                running.append(pool.submit(self._turn, turn, turn.group in keep))
        for one in running:
            one.result()

    def _turn(self, turn: Turn, keep: bool) -> None:
        try:
            with contextlib.ExitStack() as unless_through:
                # The others are not to go on for hours before it is said what has ended this one.
                unless_through.callback(self._stop.set)
                self._measure(turn)
                unless_through.pop_all()
        finally:
            if not keep or self._over():
                self._release(turn.group)

    def _measure(self, turn: Turn) -> None:
        with contextlib.suppress(Ended):
            for cell in self._in_order(turn):
                if self._over():
                    return
                self._unit(turn.group, (cell, turn.block))

    def _in_order(self, turn: Turn) -> list[str]:
        """Its missing cells; first the one that an earlier command may have left under way."""
        up = self._book.ledger.up
        cells = self._missing.of(turn)
        runs = {cell: self._book.ledger.open_run((cell, turn.block)) for cell in cells}
        return sorted(cells, key=lambda cell: (run := runs[cell]) is None or run.number not in up)

    def _release(self, group: str) -> None:
        try:
            self._fleet.end(group)
        finally:  # also when the disk is full: another may wait for the slot
            if group in self._holding:
                self._holding.discard(group)
                self._slots.release()

    def _over(self) -> bool:
        """Whether nothing more is to be begun."""
        if self.spent is None:
            self.spent = self._budget_spent()
        return self._stop.is_set() or self.spent is not None

    def _budget_spent(self) -> str | None:
        asked, ledger = self._work.checked.asked.budget, self._book.ledger
        hours = ledger.gpu_seconds(time.time()) / 3600
        if asked.gpu_hours is not None and hours >= asked.gpu_hours:
            return f"{hours:.2f} of {asked.gpu_hours:g} GPU-hours are used"
        return None

    def _check_jobs(self, group: str) -> None:
        """Raise Ended if the group's next deployment would take more jobs than there may be."""
        most, used = self._work.checked.asked.budget.jobs, self._book.ledger.jobs
        more = self._work.sizes[group].jobs
        if most is not None and group not in self._fleet.groups_up and used + more > most:
            self.spent = f"{used} of {most} jobs are used, and a deployment has {more}"
            raise Ended(self.spent)

    # --- a repetition ---

    def _unit(self, group: str, unit: Unit) -> None:
        """Measure a repetition; once more if its deployment ends under it, which may be its time
        limit, or its node."""
        ended: JobEnded | None = None
        for _ in range(2):
            try:
                self._check_jobs(group)
                live = self._fleet.get(group, self._repetitions.expected_s(unit[0]))
            except ServiceError as error:
                self._repetitions.fail(unit, error.message)
                return
            if not self._missing.is_missing(unit):
                return  # the deployment that serves now has the conditions of an earlier one
            try:
                self._repetitions.measure(unit, live)
                return
            except JobEnded as error:
                ended = error
                self._fleet.lost(group, error.message)
        assert ended is not None
        self._repetitions.fail(unit, ended.message, live)
