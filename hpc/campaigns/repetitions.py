"""Repetitions of cells: one run, or a search of several; each step of it is in the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from campaign.book import Book
from campaign.file import Search as SearchAsked
from campaign.units import Measured, Started, Unit
from hpc.campaigns.deploying import Ended
from hpc.campaigns.fleet import Size
from hpc.campaigns.live import Live
from hpc.campaigns.reading import Checked
from hpc.campaigns.runs import Outcome, asked_of, found_in, measure
from hpc.campaigns.searching import found_by, nearest, outside, probed, refused, resumed
from hpc.console import Console

#: What a run takes beside its requests: warm-up, results.
AROUND_S = 30.0


@dataclass(frozen=True)
class Work:
    """What is carried out. `fingerprints`: of each cell; `benchmarks`: where runs are; `sizes`: of
    the deployments of each group."""

    checked: Checked
    fingerprints: Mapping[str, str]
    sizes: Mapping[str, Size]
    benchmarks: Path


class Repetitions:
    """Measures repetitions on deployments that serve; threads may share it."""

    def __init__(self, work: Work, book: Book, console: Console, stop: threading.Event) -> None:
        self._work, self._book, self._console, self._stop = work, book, console, stop

    def take_up(self) -> None:
        """A run of an earlier command whose results are there, and not in the ledger, is not done
        again."""
        for unit in list(self._book.ledger.started):
            begun = self._book.ledger.open_run(unit)
            if begun is None or not self._book.ledger.counts(begun):
                continue
            outcome = found_in(self._work.benchmarks / begun.run)
            if outcome is None:
                continue
            self._console.tell("orch", f"{begun.run} had come to its end: it is taken up")
            if begun.load is None:
                self._record(begun, outcome)
            elif (found := probed(begun, outcome)) is not None:
                self._book.add(found)

    def expected_s(self, cell: str) -> float:
        """How long a run of a cell takes, as far as that is known."""
        found = self._book.ledger.measured
        known = [one.seconds for (of, _), all_ in found.items() if of == cell for one in all_
                 if one.seconds]  # fmt: skip
        load = self._work.checked.recipes[cell].job.service
        return max([*known, load.duration_seconds or 0.0]) + AROUND_S

    def measure(self, unit: Unit, live: Live) -> None:
        """Measure a repetition on a deployment. Raises JobEnded, and Ended."""
        search = self._work.checked.asked.search
        if search is not None:
            self._search(search, unit, live)
            return
        begun = self._start(unit, live)
        self._record(begun, self._run(begun, live), live)

    def fail(self, unit: Unit, problem: str, live: Live | None = None) -> None:
        """Write down that a repetition has failed; `live`: the deployment that it had."""
        begun = self._book.ledger.open_run(unit) if live is not None else None
        self._record(begun or self._begun(unit, live), Outcome("failed", problem=problem), live)

    def _search(self, asked: SearchAsked, unit: Unit, live: Live) -> None:
        search, seconds = resumed(asked, self._book, unit), 0.0
        while (load := search.next()) is not None:
            begun = self._start(unit, live, load)
            outcome = self._run(begun, live)
            found = probed(begun, outcome)
            if found is None:
                self._record(begun, refused(asked.words(load), outcome), live)
                return
            self._book.add(found)
            search.tell(found.load, found.good, found.of)
            seconds += outcome.seconds or 0.0
            self._console.tell(
                "orch",
                f"block {begun.block}, {begun.cell}: at {asked.words(load)} {found.good} of "
                f"{found.of} within the SLO",
            )
        figures, at = found_by(search, asked.knob), search.estimate.value
        begun, outcome = self._found(unit, live, figures, at, seconds)
        if (problem := outside(search, asked)) is not None:
            outcome = replace(outcome, state="invalid", problem=problem)
        self._record(begun, outcome, live)

    def _found(
        self, unit: Unit, live: Live, figures: dict[str, float], at: float, seconds: float
    ) -> tuple[Started, Outcome]:
        """What a search has come to, with the other figures of the run that is nearest to it."""
        run = nearest(self._book, unit, at).run
        there = found_in(self._work.benchmarks / run)
        more = {} if there is None else there.figures
        begun = self._begun(unit, live).model_copy(update={"run": run})
        return begun, Outcome("done", {**more, **figures}, seconds=seconds or None)

    # --- runs ---

    def _start(self, unit: Unit, live: Live, load: float | None = None) -> Started:
        """The run that is under way on this deployment since an earlier command, else a new one."""
        going_on = self._book.ledger.open_run(unit)
        if going_on is not None and (going_on.number, going_on.load) == (live.number, load):
            return going_on
        begun = self._begun(unit, live, load)
        self._book.add(begun)
        return begun

    def _begun(self, unit: Unit, live: Live | None, load: float | None = None) -> Started:
        cell, block = unit
        ledger, checked = self._book.ledger, self._work.checked
        place = [one.key for one in checked.cells].index(cell) + 1
        times = len(ledger.started.get(unit, ())) + 1
        serving = ledger.serving.get(checked.group_of[cell].id)
        return Started(
            at=time.time(),
            cell=cell,
            block=block,
            run=f"{checked.name}-c{place:03}-b{block:02}-{times}",
            attempt=len(ledger.tries(unit)) + 1,
            number=0 if live is None else live.number,
            planned=self._work.fingerprints[cell],
            deployed=serving.fingerprint if serving and live else "",
            load=load,
        )

    def _run(self, begun: Started, live: Live) -> Outcome:
        checked = self._work.checked
        recipe = asked_of(checked.recipes[begun.cell], checked.asked, begun)
        folder = self._work.benchmarks / begun.run
        return measure(live, recipe, begun.run, folder, self._check)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Ended("the campaign is to end")

    # --- the ledger ---

    def _record(self, begun: Started, outcome: Outcome, live: Live | None = None) -> None:
        self._book.add(
            Measured(
                at=time.time(),
                cell=begun.cell,
                block=begun.block,
                attempt=begun.attempt,
                state=outcome.state,
                planned=begun.planned,
                deployed=begun.deployed,
                run=begun.run if begun.number else None,
                figures=outcome.figures,
                problem=outcome.problem,
                nodes=self._nodes(begun, live),
                seconds=outcome.seconds,
            )
        )
        self._say(begun, outcome)

    def _nodes(self, begun: Started, live: Live | None) -> list[str]:
        if live is not None:
            return live.nodes
        served = self._book.ledger.deployed.get(begun.number)
        return served.nodes if served else []

    def _say(self, begun: Started, outcome: Outcome) -> None:
        ledger = self._book.ledger
        why = f": {outcome.problem}" if outcome.problem else ""
        search = self._work.checked.asked.search
        if search is not None and outcome.state == "done":
            at, low, high = (outcome.figures[f"search.{k}"] for k in (search.knob, "low", "high"))
            why = f": {search.words(at)} ({low:.4g} to {high:.4g})"
        self._console.tell(
            "orch",
            f"{len(ledger.last())} of {len(ledger.wanted)}: block {begun.block}, {begun.cell}: "
            f"{outcome.state}{why}",
        )
