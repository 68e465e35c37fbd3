"""Which figures a campaign's report has, and by which of them cells are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campaign.cells import Observation
from loadgen.measure import run_figures
from loadgen.measure.run_figures import MAIN_FIGURES, SHOWN_FIGURES, RunFigure

#: What a search has found, of no single run.
SEARCHED = tuple(
    RunFigure(f"search.{knob}", label, lambda _summary: None)
    for knob, label in (
        ("rate", "highest rate within the SLO [requests/s]"),
        ("n_clients", "most clients within the SLO"),
    )
)
BY_KEY: Mapping[str, RunFigure] = {
    **run_figures.BY_KEY,
    **{figure.key: figure for figure in SEARCHED},
}
#: All that are shown of cells that have them.
SHOWN = (*SEARCHED, *SHOWN_FIGURES)


def main_figures(observations: Sequence[Observation]) -> Sequence[RunFigure]:
    """Return those that are tested for differences, the one that decides first. Where loads were
    searched that is the load alone: each cell has the other figures at another one."""
    return searched_in(observations) or MAIN_FIGURES


def searched_in(observations: Sequence[Observation]) -> Sequence[RunFigure]:
    """Return what was searched, if anything was."""
    return [one for one in SEARCHED if any(one.key in found.figures for found in observations)]
