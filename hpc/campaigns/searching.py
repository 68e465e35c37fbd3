"""A repetition that is a search: runs at one load after another, each of them in the ledger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from campaign.book import Book
from campaign.file import Search as Asked
from campaign.file import Searched
from campaign.units import Probed, Started, Unit
from hpc.campaigns.runs import Outcome

if TYPE_CHECKING:
    from campaign.search import Search

#: Why a run at a load that is too high is not valid; what it says of the load holds.
_OVERLOADED = frozenset({"error_rate"})


def resumed(asked: Asked, book: Book, unit: Unit) -> Search:
    """A search that knows what is in the ledger of it."""
    from campaign.search import Search  # it loads numpy

    low, high = asked.between
    whole = asked.knob == "n_clients"
    found = Search(low, high, asked.goodput, whole=whole, most=asked.runs)
    for one in book.ledger.probes(unit):
        found.tell(one.load, one.good, one.of)
    return found


def probed(begun: Started, outcome: Outcome) -> Probed | None:
    """What a run says of its load; None if it says nothing: it failed, or is not valid for
    another reason than that the load is too high."""
    share = outcome.figures.get("goodput.share")
    of = outcome.figures.get("requests.counted", outcome.figures.get("requests.succeeded"))
    usable = outcome.state == "done" or (outcome.codes and outcome.codes <= _OVERLOADED)
    if begun.load is None or share is None or of is None or not usable:
        return None
    return Probed(
        at=time.time(),
        cell=begun.cell,
        block=begun.block,
        planned=begun.planned,
        deployed=begun.deployed,
        run=begun.run,
        load=begun.load,
        good=round(share * of),
        of=round(of),
    )


def refused(at: str, outcome: Outcome) -> Outcome:
    """What a search comes to of which a run at that load says nothing."""
    why = outcome.problem or "the run has no share of requests within the SLO."
    state = "failed" if outcome.state == "done" else outcome.state
    return Outcome(state, problem=f"at {at}: {why}", seconds=outcome.seconds)


def found_by(search: Search, knob: Searched) -> dict[str, float]:
    """The figures of a search that is done: the highest load that keeps the SLO, by what it is of,
    and its interval of 95 %."""
    capacity = search.estimate
    return {
        f"search.{knob}": capacity.value,
        "search.low": capacity.low,
        "search.high": capacity.high,
        "search.runs": float(capacity.runs),
    }


def outside(search: Search, asked: Asked) -> str | None:
    """Say that the limit is not where it was searched, so that no load is known: else None."""
    where, (low, high) = search.estimate.where, asked.between
    if where == "below":
        return (
            f"not even {asked.words(low)} keep the SLO: the limit is below what was searched; "
            f"begin search.{asked.knob} lower."
        )
    if where == "above":
        return (
            f"even {asked.words(high)} keep the SLO: the limit is above what was searched; let "
            f"search.{asked.knob} end higher."
        )
    return None


def nearest(book: Book, unit: Unit, load: float) -> Probed:
    """The run of a search at the load that is nearest to one."""
    return min(book.ledger.probes(unit), key=lambda one: abs(one.load - load))
