"""Whether the load generator itself could have moved the figures that it reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from contracts.summary import Client, Distribution, Some, Summary

#: A figure that could be off by more than either is not ours to report.
MAX_SHARE, MAX_SHIFT_S = 0.05, 0.005
#: Less than this matters to nobody, be the figure as small as it may.
MIN_SHIFT_S = 0.00025
#: We sample our lag each 10 ms and miss some of it; arrivals see this much more, at most, as
#: benchmarks/truth.py starved finds it.
MISSED = 1.25
#: A pause that no healthy machine makes is one of 50 ms: sampling each 10 ms, we see at least 40 of
#: it. A shorter one moves the greatest value of many, which is then withheld, and nothing else.
MAX_PAUSE_S = 0.039
#: Samples of our own lag, each 10 ms, below which its spread is not known.
MIN_SAMPLES = 100
_PERCENTILES = (90, 95, 99)


def own_faults(summary: Summary) -> list[str]:
    """Return a sentence for each way in which it was too slow; none if it did not limit the run."""
    if not is_long_enough(summary):
        return []
    faults = [*_late_arrivals(summary), *_late_sending(summary)]
    if not faults:
        return []
    return [
        f"Limited by the load generator: {'; '.join(faults)} (it used "
        f"{summary.client.cpu_share or 0.0:.0%} of a core); take more --processes or a machine "
        "with free cores."
    ]


def is_long_enough(summary: Summary) -> bool:
    """Return whether the run was long enough to know how late we were."""
    return (summary.client.loop_lag_seconds["n"] or 0) >= MIN_SAMPLES


def _late_arrivals(summary: Summary) -> Iterator[str]:
    """The first figure that is stamped too late, or that in an open loop was sent too late."""
    pause = summary.client.loop_lag_seconds["max"]
    if pause is not None and pause > MAX_PAUSE_S:
        yield f"it heard nothing for {_ms(pause)} at a time"
    for name, stat, value, shift in shifts(summary):
        if stat != "max" and shift > _limit(value):
            yield f"{name.upper()} {stat} ({_ms(value)}) could be off by {_ms(shift)}"
            return


def _limit(value: float) -> float:
    """By how much a figure may be off, in seconds."""
    return max(min(MAX_SHARE * value, MAX_SHIFT_S), MIN_SHIFT_S)


def withhold(summary: Summary) -> Summary:
    """Return the summary without the maxima that a pause of ours could have made; `withheld`
    names them. A single pause says nothing against all the other figures."""
    names = [
        name
        for name, stat, value, shift in shifts(summary)
        if stat == "max" and shift > _limit(value)
    ]
    without = {name: replace(summary.latency(name), max=None) for name in names}
    return replace(
        summary,
        latency_seconds={**summary.latency_seconds, **without},
        withheld=[f"{name}.max" for name in names],
    )


def shifts(summary: Summary) -> Iterator[tuple[str, str, float, float]]:
    """Yield figure, statistic, value and by how much we could have moved it, in seconds.

    What an open loop sends late counts, and arrivals whose time is not sure. A mean is moved by the
    mean of that. A gap is the difference of two arrivals, so that its mean stays what it is.
    """
    client = summary.client
    sent = [client.dispatch_delay_seconds] if summary.open_loop else []
    for name in ("ttft", "e2e"):
        lates = [*sent, _late_stamps(client, name)]
        figure = summary.latency(name)
        if figure.mean is not None:
            yield name, "mean", figure.mean, sum(late["mean"] or 0.0 for late in lates)
        yield from _tails(name, figure, lates, sum(late["p50"] or 0.0 for late in lates))
    yield from _tails("itl", summary.latency("itl"), [_late_stamps(client, "itl")], 0.0)


def _late_stamps(client: Client, name: str) -> Mapping[str, float]:
    """How late the arrivals of a figure are stamped: those that are not sure by the greatest of the
    loop's lags, for those let lines be read together; the others not at all."""
    unsure = client.unsure[name] or 0.0
    lag = {stat: value or 0.0 for stat, value in client.loop_lag_seconds.items()}
    tails = {f"p{p}": lag[f"p{p}"] if unsure > 1 - p / 100 else 0.0 for p in (50, *_PERCENTILES)}
    most = lag["max"] if unsure else 0.0
    return {"mean": min(lag["mean"], unsure * most), **tails, "max": most}


def _tails(
    name: str, figure: Distribution, lates: Sequence[Some], offset: float
) -> Iterator[tuple[str, str, float, float]]:
    """By how much the upper percentiles are off: by `offset` as all of them are, and by the part of
    their distance from the median that is ours. Distances of independent parts are taken to add in
    quadrature: exact for normal ones; where the server itself does not vary, all is ours. Of the
    greatest value all is ours, for one pause is enough."""
    middle = figure.p50
    for stat in (*(f"p{p}" for p in _PERCENTILES), "max"):
        value = figure.at(stat)
        if value is None or middle is None:
            continue
        ours = MISSED * sum((late.get(stat) or 0.0) - (late["p50"] or 0.0) for late in lates)
        seen = max(0.0, value - middle)
        theirs = 0.0 if stat == "max" else math.sqrt(max(0.0, seen**2 - ours**2))
        yield name, stat, value, offset + min(seen - theirs, ours)


def _late_sending(summary: Summary) -> Iterator[str]:
    """A closed loop that sends late asks for less than it was to: the server looks better."""
    e2e = summary.latency("e2e").mean
    delay = summary.client.dispatch_delay_seconds["mean"]
    if e2e and delay is not None and delay > max(MAX_SHARE * e2e, MIN_SHIFT_S):
        yield f"requests were sent {_ms(delay)} late on average, with an E2E of {_ms(e2e)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
