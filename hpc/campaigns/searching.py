"""A repetition that is a search: runs at one rate after another, each of them in the ledger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from campaign.book import Book
from campaign.file import Search as Asked
from campaign.units import Probed, Started, Unit
from hpc.campaigns.runs import Outcome

if TYPE_CHECKING:
    from campaign.search import Search

#: Why a run at a rate that is too high is not valid; what it says of the rate holds.
_OVERLOADED = frozenset({"error_rate"})


def resumed(asked: Asked, book: Book, unit: Unit) -> Search:
    """A search that knows what is in the ledger of it."""
    from campaign.search import Search  # it loads numpy

    low, high = asked.rate
    found = Search(low, high, asked.goodput, most=asked.runs)
    for one in book.ledger.probes(unit):
        found.tell(one.rate, one.good, one.of)
    return found


def probed(begun: Started, outcome: Outcome) -> Probed | None:
    """What a run says of its rate; None if it says nothing: it failed, or is not valid for
    another reason than that the rate is too high."""
    share = outcome.figures.get("goodput.share")
    of = outcome.figures.get("requests.counted", outcome.figures.get("requests.succeeded"))
    usable = outcome.state == "done" or (outcome.codes and outcome.codes <= _OVERLOADED)
    if begun.rate is None or share is None or of is None or not usable:
        return None
    return Probed(
        at=time.time(),
        cell=begun.cell,
        block=begun.block,
        planned=begun.planned,
        deployed=begun.deployed,
        run=begun.run,
        rate=begun.rate,
        good=round(share * of),
        of=round(of),
    )


def refused(begun: Started, outcome: Outcome) -> Outcome:
    """What a search comes to of which a run says nothing."""
    why = outcome.problem or "the run has no share of requests within the SLO."
    state = "failed" if outcome.state == "done" else outcome.state
    return Outcome(state, problem=f"at {begun.rate:g} requests/s: {why}", seconds=outcome.seconds)


def found_by(search: Search) -> dict[str, float]:
    """The figures of a search that is done: the highest rate that keeps the SLO, in requests per
    second, and its interval of 95 %."""
    capacity = search.estimate
    return {
        "search.rate": capacity.value,
        "search.low": capacity.low,
        "search.high": capacity.high,
        "search.runs": float(capacity.runs),
    }


def nearest(book: Book, unit: Unit, rate: float) -> Probed:
    """The run of a search at the rate that is nearest to one."""
    return min(book.ledger.probes(unit), key=lambda one: abs(one.rate - rate))
