"""Which figures a campaign's report has, and by which of them cells are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campaign.cells import Observation
from loadgen.measure import run_figures
from loadgen.measure.run_figures import MAIN_FIGURES, SHOWN_FIGURES, RunFigure

#: What a search has found, of no single run.
SEARCHED = RunFigure(
    "search.rate", "highest rate within the SLO [requests/s]", lambda _summary: None
)
BY_KEY: Mapping[str, RunFigure] = {**run_figures.BY_KEY, SEARCHED.key: SEARCHED}
#: All that are shown of cells that have them.
SHOWN = (SEARCHED, *SHOWN_FIGURES)


def main_figures(observations: Sequence[Observation]) -> Sequence[RunFigure]:
    """Return those that are tested for differences, the one that decides first. Where rates were
    searched that is the rate alone: each cell has the other figures at another load."""
    searched = any(SEARCHED.key in one.figures for one in observations)
    return (SEARCHED,) if searched else MAIN_FIGURES
