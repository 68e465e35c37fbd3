"""Which request is whose: the whole schedule follows from the options, nothing is drawn later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadgen.options import Options


@dataclass(frozen=True)
class Planned:
    """One request before it is sent; `prompt` is an index into the options.

    Its replica is chosen when it is sent.
    """

    index: int
    client: int
    prompt: int
    seed: int


def closed_loop(options: Options, client: int) -> Iterator[Planned]:
    """The requests of one client, one after another: those whose index is `client` mod clients."""
    for index in range(client, options.requests, options.clients):
        yield _planned(options, index, client)


def warm_up(options: Options) -> Iterator[Planned]:
    """The warm-up requests of each replica: like the first ones of the run, not counted in it."""
    for index in range(options.warmup):
        yield _planned(options, index, 0)


def _planned(options: Options, index: int, client: int) -> Planned:
    prompt = index % len(options.prompts)
    return Planned(index, client, prompt, (options.seed + index) % 2**31)
