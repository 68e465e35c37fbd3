"""Which request is whose: the whole schedule follows from the options, nothing is drawn later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadgen.options import Options


@dataclass(frozen=True)
class Planned:
    """One request before it is sent. `prompt` and `replica` are indexes into the options."""

    index: int
    client: int
    prompt: int
    replica: int
    seed: int


def closed_loop(options: Options, client: int) -> Iterator[Planned]:
    """The requests of one client, one after another: those whose index is `client` mod clients.

    A client keeps to one replica, as it keeps one connection; the clients take turns.
    """
    for index in range(client, options.requests, options.clients):
        yield _planned(options, index, client, client % len(options.replicas))


def warm_up(options: Options, replica: int) -> Iterator[Planned]:
    """The warm-up requests for one replica: like the first ones of the run, not counted in it."""
    for index in range(options.warmup):
        yield _planned(options, index, 0, replica)


def _planned(options: Options, index: int, client: int, replica: int) -> Planned:
    prompt = index % len(options.prompts)
    return Planned(index, client, prompt, replica, (options.seed + index) % 2**31)
