"""Where the time of an answer with retrieval goes: its steps, which add up to its E2E latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadgen.measurements import RequestLine
from loadgen.outputs.plot_data import Requests, counted

#: In the order in which they come; the rest is waiting, and the way there and back. What a server
#: does not say is in the rest.
STEPS = ("embed", "search", "load", "prefill", "decode", "rest")
#: Of the slowest requests this share is looked at apart, if that makes at least one.
SLOWEST = 0.1

#: Seconds of each of STEPS.
Steps = Mapping[str, float]


def steps_of(requests: Requests) -> list[Steps]:
    """Of each request that counts and had retrieval."""
    return [_steps(r) for r in counted(requests) if r["server"].get("embed") is not None]


def _steps(request: RequestLine) -> Steps:
    known = {step: request["server"].get(step) or 0.0 for step in STEPS[:-1]}
    return {**known, "rest": (request["e2e"] or 0.0) - sum(known.values())}


def total(steps: Steps) -> float:
    """Return seconds from where its latency counts to its end."""
    return sum(steps.values())


def mean(found: Sequence[Steps]) -> Steps:
    """Return the mean of each step: they add up to the mean E2E latency."""
    return {step: sum(each[step] for each in found) / len(found) for step in STEPS}


def slowest(found: Sequence[Steps]) -> Sequence[Steps]:
    """Return the slowest tenth by E2E latency; empty if there are fewer than ten."""
    ordered = sorted(found, key=total, reverse=True)
    return ordered[: int(len(ordered) * SLOWEST)]
