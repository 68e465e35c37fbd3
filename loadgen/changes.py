"""What changed from the runs of A to those of B: each figure with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loadgen import intervals, rows
from loadgen.intervals import Change, Statistic
from loadgen.options import UsageError
from loadgen.results import Run, Side
from loadgen.series import Requests


@dataclass(frozen=True)
class Figure:
    """A figure that is compared: where the summary has it, and how much a unit is of a second."""

    label: str
    path: tuple[str, ...]
    times: float
    better: str

    def of(self, run: Run) -> float | None:
        """Its value in a run, in the summary's units."""
        if self.path == FAILED:
            requests = run.summary["requests"]
            ended = requests["succeeded"] + requests["failed"]
            return requests["failed"] / ended if ended else None
        value: float | None = rows.look(run.summary, *self.path)
        return value


FAILED = ("requests", "failed")
RATE = "output_tokens_per_second"
FIGURES = (
    *(
        Figure(f"{key.upper()} {name} [ms]", ("latency_seconds", key, name), 1000.0, "lower")
        for key, names in (
            ("ttft", ("mean", "p50", "p99")),
            ("itl", ("mean", "p99")),
            ("tpot", ("mean",)),
            ("e2e", ("mean", "p50", "p99")),
        )
        for name in names
    ),
    Figure("pace of one request, mean [tokens/s]", ("per_request", RATE, "mean"), 1.0, "higher"),
    Figure("output tokens/s, all clients", ("throughput", RATE), 1.0, "higher"),
    Figure("requests/s, all clients", ("throughput", "requests_per_second"), 1.0, "higher"),
    Figure("failed requests [%]", FAILED, 100.0, "lower"),
)

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
    changes: Sequence[tuple[Figure, Change]]


def sections(a: Side, b: Side) -> list[Section]:
    """A section for each point that both sides have. Raises UsageError where there is none."""
    shared = [value for value in a if value in b]
    if not shared:
        raise UsageError("A and B have nothing in common: a sweep is compared with a sweep that "
                         "has some of its points, a run with a run.")  # fmt: skip
    return [_section(value, a[value], b[value]) for value in shared]


def _section(value: float | None, a: Sequence[Run], b: Sequence[Run]) -> Section:
    rate = rows.look(a[0].summary, "load", "mode") == "open"
    title = "" if value is None else f"{value:g} {'requests/s' if rate else 'clients'}: "
    title += f"{len(a)} run{'s' * (len(a) != 1)} of A, {len(b)} of B"
    if len(a) > 1 and len(b) > 1:
        return Section(title, OVER_RUNS, list(_over_runs(a, b)))
    if len(a) == len(b) == 1:
        return Section(f"{title}; intervals are within-run only", WITHIN, list(_within(a[0], b[0])))
    return Section(title, ONE_SIDED, list(_without_intervals(a, b)))


def _known(figure: Figure, runs: Sequence[Run]) -> list[float]:
    return [value for run in runs if (value := figure.of(run)) is not None]


def _over_runs(a: Sequence[Run], b: Sequence[Run]) -> Iterator[tuple[Figure, Change]]:
    """A figure that some run lacks is compared over the others, where two of each side have it."""
    for figure in FIGURES:
        known_a, known_b = _known(figure, a), _known(figure, b)
        if len(known_a) > 1 and len(known_b) > 1:
            yield figure, intervals.over_runs(known_a, known_b)


def _without_intervals(a: Sequence[Run], b: Sequence[Run]) -> Iterator[tuple[Figure, Change]]:
    for figure in FIGURES:
        known_a, known_b = _known(figure, a), _known(figure, b)
        if known_a and known_b:
            yield figure, Change(float(np.mean(known_a)), float(np.mean(known_b)))


def _within(a: Run, b: Run) -> Iterator[tuple[Figure, Change]]:
    parts_a, parts_b = (
        intervals.blocks(run.requests, run.summary["concurrency"]["max"]) for run in (a, b)
    )
    for figure in FIGURES:
        value_a, value_b = figure.of(a), figure.of(b)
        if value_a is None or value_b is None:
            continue
        if not parts_a or not parts_b:
            yield figure, Change(value_a, value_b)
            continue
        statistics = _statistic(figure, parts_a), _statistic(figure, parts_b)
        counts = len(parts_a), len(parts_b)
        yield figure, intervals.within_runs(value_a, value_b, *statistics, counts)


def _statistic(figure: Figure, parts: Sequence[Requests]) -> Statistic:
    if figure.path == FAILED:
        return intervals.mean_of([np.array([r["error"] is not None for r in p]) for p in parts])
    if figure.path[0] == "throughput":
        key = "output_tokens" if figure.path[1] == RATE else "request"
        done = intervals.figure_of(parts, key)
        sums = [each.sum() if key == "output_tokens" else len(each) for each in done]
        return intervals.ratio_of(np.array(sums, dtype=np.float64), intervals.durations(parts))
    if figure.path[0] == "per_request":
        return intervals.mean_of(
            [1 / tpot[tpot > 0] for tpot in intervals.figure_of(parts, "tpot")]
        )
    values = intervals.figure_of(parts, figure.path[1])
    if figure.path[2] == "mean":
        return intervals.mean_of(values)
    return intervals.percentile_of(values, float(figure.path[2][1:]))
