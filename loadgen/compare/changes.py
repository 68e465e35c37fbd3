"""What changed from the runs of A to those of B: each figure with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.errors import UsageError
from contracts.figures import MAIN, Figure
from loadgen.compare import intervals
from loadgen.compare.intervals import Change, Statistic
from loadgen.measure.run_figures import COMPARED, RunFigure
from loadgen.measurements import RequestLine
from loadgen.outputs.plot_data import Requests, whole
from loadgen.outputs.results import RunResult, Side

#: A figure of parts of a run's requests.
Within = Callable[[Sequence[Requests]], Statistic]


def _latency(figure: Figure, name: str) -> Within:
    def within(parts: Sequence[Requests]) -> Statistic:
        values = intervals.figure_of(parts, figure.key)
        if name == "mean":
            return intervals.mean_of(values)
        return intervals.percentile_of(values, float(name[1:]))

    return within


def _pace(parts: Sequence[Requests]) -> Statistic:
    return intervals.mean_of([1 / t[t > 0] for t in intervals.figure_of(parts, "tpot")])


def _per_second(of: Callable[[RequestLine], float]) -> Within:
    def within(parts: Sequence[Requests]) -> Statistic:
        sums = [float(sum(map(of, whole(part)))) for part in parts]
        return intervals.ratio_of(np.array(sums), intervals.durations(parts))

    return within


def _failed(parts: Sequence[Requests]) -> Statistic:
    return intervals.mean_of([np.array([r["error"] is not None for r in part]) for part in parts])


_WITHIN: Mapping[str, Within] = {
    **{
        f"latency_seconds.{it.key}.{name}": _latency(it, name)
        for it in MAIN
        for name in it.compared
    },
    "per_request.output_tokens_per_second.mean": _pace,
    "throughput.output_tokens_per_second": _per_second(
        lambda request: request["output_tokens"] or 0
    ),
    "throughput.requests_per_second": _per_second(lambda request: 1),
    "requests.failed_share": _failed,
}

OVER_RUNS = (
    "The run is the unit: intervals of 95 % for the difference of the means of runs (Welch's t) "
    "and for their ratio (Fieller). The figure of a side is the mean of its runs' figures."
)
WITHIN = (
    "There is one run on each side. The requests of one run are not independent, and one run does "
    "not show how runs differ: the intervals of 95 % (block bootstrap over time) are within-run "
    "only. To say that B differs from A, measure each several times, in turn."
)
ONE_SIDED = (
    "One side has several runs and the other has one, so how runs differ there is not known: no "
    "intervals. Measure both several times, in turn."
)


@dataclass(frozen=True)
class Section:
    """What is compared at one point: the changes, and what the intervals mean."""

    title: str
    method: str
    changes: Sequence[tuple[RunFigure, Change]]


def sections(a: Side, b: Side) -> list[Section]:
    """Return a section for each point that both sides have. Raises UsageError if there is none."""
    shared = [value for value in a if value in b]
    if not shared:
        raise UsageError("A and B have nothing in common: a sweep is compared with a sweep that "
                         "has some of its points, a run with a run.")  # fmt: skip
    return [_section(value, a[value], b[value]) for value in shared]


def _section(value: float | None, a: Sequence[RunResult], b: Sequence[RunResult]) -> Section:
    rate = a[0].summary.open_loop
    title = "" if value is None else f"{value:g} {'requests/s' if rate else 'clients'}: "
    title += f"{len(a)} run{'s' * (len(a) != 1)} of A, {len(b)} of B"
    if len(a) > 1 and len(b) > 1:
        return Section(title, OVER_RUNS, list(_over_runs(a, b)))
    if len(a) == len(b) == 1:
        return Section(f"{title}; intervals are within-run only", WITHIN, list(_within(a[0], b[0])))
    return Section(title, ONE_SIDED, list(_without_intervals(a, b)))


def _known(figure: RunFigure, runs: Sequence[RunResult]) -> list[float]:
    return [value for run in runs if (value := figure.of(run.summary)) is not None]


def _over_runs(
    a: Sequence[RunResult], b: Sequence[RunResult]
) -> Iterator[tuple[RunFigure, Change]]:
    """A figure that some run lacks is compared over the others, if two of each side have it."""
    for figure in COMPARED:
        known_a, known_b = _known(figure, a), _known(figure, b)
        if len(known_a) > 1 and len(known_b) > 1:
            yield figure, intervals.over_runs(known_a, known_b)


def _without_intervals(
    a: Sequence[RunResult], b: Sequence[RunResult]
) -> Iterator[tuple[RunFigure, Change]]:
    for figure in COMPARED:
        known_a, known_b = _known(figure, a), _known(figure, b)
        if known_a and known_b:
            yield figure, Change(float(np.mean(known_a)), float(np.mean(known_b)))


def _within(a: RunResult, b: RunResult) -> Iterator[tuple[RunFigure, Change]]:
    parts_a, parts_b = (
        intervals.blocks(run.requests, run.summary.concurrency.max) for run in (a, b)
    )
    for figure in COMPARED:
        value_a, value_b = figure.of(a.summary), figure.of(b.summary)
        if value_a is None or value_b is None:
            continue
        if not parts_a or not parts_b:
            yield figure, Change(value_a, value_b)
            continue
        within = _WITHIN[figure.key]
        statistics = within(parts_a), within(parts_b)
        counts = len(parts_a), len(parts_b)
        yield figure, intervals.within_runs(value_a, value_b, *statistics, counts)
