"""Whether the load generator itself could have moved the figures that it reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: A figure that could be off by more than either is not ours to report.
MAX_SHARE, MAX_SHIFT_S = 0.05, 0.005
#: Less than this matters to nobody, be the figure as small as it may.
MIN_SHIFT_S = 0.00025
#: The greatest value of many is moved by a single pause, which every machine has now and then.
MAX_PAUSE_S = 0.04
#: Looks at our own lag, each 10 ms, below which its spread is not known.
MIN_LOOKS = 100
_PERCENTILES = ("p90", "p95", "p99")


def own_faults(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each way in which it was too slow; nothing for a run that it did not limit."""
    client = summary["client"]
    if not can_tell(summary):
        return []
    faults = [*_late_arrivals(summary), *_late_sending(summary)]
    if not faults:
        return []
    return [
        f"Limited by the load generator: {'; '.join(faults)} (it used "
        f"{client['cpu_share'] or 0.0:.0%} of a core); take more --processes or a machine with "
        "free cores."
    ]


def can_tell(summary: Mapping[str, Any]) -> bool:
    """Whether the run was long enough to know how late we were."""
    return bool(summary["client"]["loop_lag_seconds"]["n"] >= MIN_LOOKS)


def _late_arrivals(summary: Mapping[str, Any]) -> Iterator[str]:
    """The first figure that is stamped too late, or that in an open loop was sent too late."""
    for name, stat, value, shift in shifts(summary):
        limit = MAX_PAUSE_S if stat == "max" else min(MAX_SHARE * value, MAX_SHIFT_S)
        if shift > max(limit, MIN_SHIFT_S):
            yield f"{name.upper()} {stat} ({_ms(value)}) could be off by {_ms(shift)}"
            return


def shifts(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, float, float]]:
    """Figure, statistic, value and by how much we could have moved it, in seconds.

    What arrives is stamped late by the loop's lag; what an open loop sends late counts, too. A mean
    is moved by the mean of that. A gap is the difference of two arrivals, so that its mean stays
    what it is.
    """
    client = summary["client"]
    lates = [client["loop_lag_seconds"]]
    if summary["load"]["mode"] == "open":
        lates.append(client["dispatch_delay_seconds"])
    for name in ("ttft", "e2e"):
        figure = summary["latency_seconds"][name]
        if figure["mean"] is not None:
            yield name, "mean", figure["mean"], sum(late["mean"] or 0.0 for late in lates)
        yield from _tails(name, figure, lates, sum(late["p50"] or 0.0 for late in lates))
    yield from _tails("itl", summary["latency_seconds"]["itl"], lates[:1], 0.0)


def _tails(
    name: str, figure: Mapping[str, Any], lates: Sequence[Mapping[str, Any]], offset: float
) -> Iterator[tuple[str, str, float, float]]:
    """By how much the upper percentiles are off: by `offset` as all of them are, and by the part of
    their distance from the median that is ours. Distances of independent parts are taken to add in
    quadrature: exact for normal ones; where the server itself does not vary, all is ours."""
    middle = figure["p50"]
    for stat in (*_PERCENTILES, "max"):
        value = figure[stat]
        if value is None or middle is None:
            continue
        ours = sum((late.get(stat) or 0.0) - (late["p50"] or 0.0) for late in lates)
        seen = max(0.0, value - middle)
        theirs = math.sqrt(max(0.0, seen**2 - ours**2))
        yield name, stat, value, offset + seen - theirs


def _late_sending(summary: Mapping[str, Any]) -> Iterator[str]:
    """A closed loop that sends late asks for less than it was to: the server looks better."""
    e2e = summary["latency_seconds"]["e2e"]["mean"]
    delay = summary["client"]["dispatch_delay_seconds"]["mean"]
    if e2e and delay is not None and delay > MAX_SHARE * e2e:
        yield f"requests were sent {_ms(delay)} late on average, with an E2E of {_ms(e2e)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
