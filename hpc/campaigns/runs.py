"""A repetition of a cell: a benchmark of its deployment's client service."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from campaign.cells import State
from campaign.figures import figures_of, read_whole_summary
from campaign.file import Campaign
from campaign.units import Started
from contracts.errors import ServiceError
from contracts.knobs import MAX_REQUESTS
from contracts.summary import Summary
from hpc.campaigns.live import Live
from hpc.campaigns.settings import load_at
from hpc.following.benchmark import run_benchmark
from hpc.following.job_watch import JobEnded
from hpc.recipe.schema import Recipe
from ledger.conditions import fingerprint

#: A shared file system may show the results to others a moment later.
RESULTS_S = 30.0


@dataclass(frozen=True)
class Outcome:
    """What came of a repetition."""

    state: State
    figures: dict[str, float] = field(default_factory=dict)
    problem: str | None = None
    seconds: float | None = None
    #: Why it is not valid.
    codes: frozenset[str] = frozenset()


def asked_of(recipe: Recipe, asked: Campaign, run: Started) -> Recipe:
    """The recipe of a cell with what a run of it asks: the campaign's SLO if the load has no
    limits of its own, the load of a search, and a seed that no other run has. With one seed for
    all, the prompts of one run would be in an engine's cache in the next."""
    service = recipe.job.service
    # Request i has the seed SEED + i: no two runs share one, but for one chance in a thousand.
    own = int(fingerprint([asked.seed, service.seed, run.run])[:8], 16)
    changes: dict[str, object] = {"seed": own % (2**31 - MAX_REQUESTS)}
    if asked.slo is not None and service.goodput is None:
        changes["goodput"] = asked.limits
    if asked.search is not None and run.load is not None:
        changes |= load_at(asked.search.knob, run.load)
    service = service.model_copy(update=changes)
    return recipe.model_copy(update={"job": recipe.job.model_copy(update={"service": service})})


def measure(
    live: Live, recipe: Recipe, run: str, folder: Path, check: Callable[[], None]
) -> Outcome:
    """Have a deployment run a benchmark; `folder`: where its results will be; `check` raises when
    it is to be given up. A run of that name that is under way, or done, is taken up. Raises
    JobEnded, and what `check` raises."""
    began = time.monotonic()

    def both() -> None:
        check()
        live.check()

    launched = live.launched
    try:
        run_benchmark(
            launched.client, run, recipe, launched.model, both, lambda _: None, launched.token_file
        )
    except JobEnded:
        raise
    except ServiceError as error:
        live.blame()
        return Outcome("failed", problem=error.message)
    seconds = round(time.monotonic() - began, 3)
    return found_in(folder, seconds, RESULTS_S) or Outcome(
        "failed", problem=f"the run has ended, and left no summary.json in {folder}."
    )


def found_in(folder: Path, seconds: float | None = None, patience_s: float = 0.0) -> Outcome | None:
    """What a run has come to that has ended by itself; None if it has not."""
    deadline = time.monotonic() + patience_s
    while (summary := read_whole_summary(folder)) is None:
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.2)
    return _outcome(summary, seconds)


def _outcome(summary: Summary, seconds: float | None) -> Outcome:
    verdict = summary.validity
    problem = None if verdict.valid else " ".join(verdict.reasons) or "it is not valid."
    state: State = "done" if verdict.valid else "invalid"
    return Outcome(
        state,
        figures_of(summary),
        problem,
        seconds or summary.seconds.whole,
        frozenset(verdict.codes),
    )
