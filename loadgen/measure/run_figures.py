"""The figures by which whole runs are compared: each as one number of a summary.

Comparisons of runs and campaigns have them from here, with their names, units and directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contracts.figures import MAIN, Figure
from contracts.summary import Summary


@dataclass(frozen=True)
class RunFigure:
    """A figure of a run. `key`: where it stands in summary.json; `label`: with the unit in which
    people read it, which is `times` what programs read (seconds, shares, numbers); `better`:
    "higher" or "lower"."""

    key: str
    label: str
    of: Callable[[Summary], float | None]
    times: float = 1.0
    better: str = "higher"

    @property
    def name(self) -> str:
        """Its label without the unit."""
        return self.label.partition(" [")[0]


def _latency(figure: Figure, name: str) -> RunFigure:
    return RunFigure(
        f"latency_seconds.{figure.key}.{name}",
        f"{figure.label} {name} [ms]",
        lambda summary: summary.latency(figure.key).at(name),
        1000.0,
        "lower",
    )


def _failed(summary: Summary) -> float | None:
    requests = summary.requests
    return requests.failed / requests.completed if requests.completed else None


def _goodput(summary: Summary) -> float | None:
    return None if summary.goodput is None else summary.goodput.share


#: Those that are compared between runs, in the order in which they are shown.
COMPARED = (
    *(_latency(figure, name) for figure in MAIN for name in figure.compared),
    RunFigure(
        "per_request.output_tokens_per_second.mean",
        "pace of one request, mean [tokens/s]",
        lambda summary: summary.pace.mean,
    ),
    RunFigure(
        "throughput.output_tokens_per_second",
        "output tokens/s, all clients",
        lambda summary: summary.throughput.output_tokens_per_second,
    ),
    RunFigure(
        "throughput.requests_per_second",
        "requests/s, all clients",
        lambda summary: summary.throughput.requests_per_second,
    ),
    RunFigure("requests.failed_share", "failed requests [%]", _failed, 100.0, "lower"),
)
#: Those that one may read of a run besides.
RUN_FIGURES = (
    *COMPARED,
    RunFigure("goodput.share", "requests within the SLO [%]", _goodput, 100.0),
    RunFigure(
        "energy.joules_per_output_token",
        "energy per output token [J]",
        lambda summary: summary.energy.joules_per_output_token,
        better="lower",
    ),
)
BY_KEY: Mapping[str, RunFigure] = {figure.key: figure for figure in RUN_FIGURES}


def _named(*keys: str) -> tuple[RunFigure, ...]:
    return tuple(BY_KEY[key] for key in keys)


#: The few that a decision is made by. Only they are tested for differences between cells: the
#: fewer are tested, the smaller a difference that can be shown.
MAIN_FIGURES = _named(
    "throughput.output_tokens_per_second",
    "per_request.output_tokens_per_second.mean",
    "latency_seconds.ttft.mean",
    "latency_seconds.ttft.p99",
)
#: Those that are shown of each cell, with intervals.
SHOWN_FIGURES = (
    *MAIN_FIGURES,
    *_named(
        "latency_seconds.itl.p99",
        "latency_seconds.e2e.mean",
        "goodput.share",
        "energy.joules_per_output_token",
    ),
)
