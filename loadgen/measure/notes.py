"""What is to be known of a run beside its verdict: a sentence each."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.summary import PERCENTILES, OutageTimes, Summary
from loadgen.measure.self_check import is_long_enough


def _through_the_door(summary: Summary) -> Iterator[str]:
    if summary.load.get("through") == "door":
        yield (
            "Measured through the deployment's door, as its users ask: what a request waits there "
            "counts, and the engines behind it are seen as one server."
        )


def _outages(summary: Summary) -> Iterator[str]:
    """A replica that was out. The requests that failed by it count, as all do, in the reasons."""
    for replica in summary.replicas:
        for outage in replica.outages:
            yield (
                f"{replica.url} was out {_when(outage)}, so the others had its share: "
                f"{outage['why']}."
            )


def _when(outage: OutageTimes) -> str:
    if outage["to"] is None:
        return f"from {outage['from']:.2f} s on"
    return f"from {outage['from']:.2f} s to {outage['to']:.2f} s"


def _too_few(summary: Summary) -> Iterator[str]:
    figures = summary.latency("e2e")
    missing = [f"p{p}" for p in PERCENTILES if figures.at(f"p{p}") is None]
    if figures.n and missing:
        yield f"{figures.n} requests do not support {', '.join(missing)}: n/a."


def _held_back(summary: Summary) -> Iterator[str]:
    """An open loop with a limit: what waits for a slot is sent late, by request."""
    limit, most = summary.load["max_concurrency"], summary.concurrency.max
    if summary.open_loop and limit and most >= limit:
        yield (
            f"--max-concurrency {most} was reached: requests waited for a slot, which counts in "
            "their latency, and the rate may not have been reached."
        )


def _too_short_to_judge(summary: Summary) -> Iterator[str]:
    if summary.requests.started and not is_long_enough(summary):
        yield "The run was too short to tell whether the load generator limited it (1 s or more)."


def _withheld(summary: Summary) -> Iterator[str]:
    names = [name.partition(".")[0].upper() for name in summary.withheld]
    if names:
        pause = summary.client.loop_lag_seconds["max"] or 0.0
        yield (
            f"The greatest {', '.join(names)} is n/a: it could be the load generator's own, which "
            f"was {pause * 1000:.3g} ms late once."
        )


def _thinking_alone(summary: Summary) -> Iterator[str]:
    """All that such an answer has is what the model thought before it was cut short."""
    alone, done = summary.requests.thinking_alone, summary.requests.succeeded
    if alone:
        yield (
            f"{alone} of {done} answers hold thinking alone: they ended before the answer itself, "
            "so TTFO counts the others; allow more tokens (--num-predict), or no thinking (--think "
            "false)."
        )


def _out_of_room(summary: Summary) -> Iterator[str]:
    """The prompt was read whole, but not for as long as the answer needed it."""
    requests = summary.requests
    if requests.out_of_room:
        yield (
            f"{requests.out_of_room} of {requests.succeeded} answers met the end of the "
            "model's context: they stop there, or, with Ollama, go on without the beginning of "
            "their prompts; take a longer context (context_length)."
        )


def _filtered(summary: Summary) -> Iterator[str]:
    """A filter of the server's ended the text: no failure, but not what the model would say."""
    filtered = summary.requests.finished.get("content_filter")
    if filtered:
        done = summary.requests.succeeded
        yield f"{filtered} of {done} answers were ended by the server's content filter."


NOTES = (
    _through_the_door,
    _thinking_alone,
    _out_of_room,
    _filtered,
    _outages,
    _withheld,
    _too_few,
    _held_back,
    _too_short_to_judge,
)
