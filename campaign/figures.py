"""The figures of a run that a campaign compares, as one number each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from contracts.errors import UsageError
from contracts.summary import Summary
from loadgen.measure.run_figures import RUN_FIGURES

#: Parts of a summary whose numbers are kept, by the keys that summary.json has them under.
_KEPT = (
    *("latency_seconds", "per_request", "throughput", "goodput", "energy", "server_seconds"),
    *("requests", "seconds", "concurrency"),
)


def figures_of(summary: Summary) -> dict[str, float]:
    """Return all numbers of a run by their paths in summary.json (`latency_seconds.ttft.p50`), and
    those by which whole runs are compared, in its units; what is not known is left out."""
    whole = asdict(summary)
    compared = [(figure.key, figure.of(summary)) for figure in RUN_FIGURES]
    return {
        **dict(_numbers({key: whole[key] for key in _KEPT}, "")),
        **{key: value for key, value in compared if value is not None},
    }


def _numbers(value: object, path: str) -> list[tuple[str, float]]:
    if isinstance(value, dict):
        inner = [_numbers(part, f"{path}.{key}" if path else key) for key, part in value.items()]
        return [pair for pairs in inner for pair in pairs]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [(path, float(value))]
    return []


def read_whole_summary(folder: Path) -> Summary | None:
    """Return the summary of a run that came to its own end; None if there is none."""
    from loadgen.outputs.results import read_summary  # it knows all that a summary may be

    try:
        found = read_summary(folder)
    except UsageError:
        return None
    return found if isinstance(found, Summary) and not found.partial else None
