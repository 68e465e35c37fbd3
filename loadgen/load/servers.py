"""What the servers say of themselves, before a run and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from contracts.json_object import JsonObject
from engines.engine import Ask
from engines.http.asking import NoAnswer, asking
from engines.http.headers import Mask
from engines.http.urls import Base
from engines.registry import ENGINES
from loadgen.measurements import ServerFacts
from loadgen.options import Options, Replica

TIMEOUT_S = 3.0


def probe(options: Options) -> Sequence[ServerFacts]:
    """Return what each replica says of itself; nothing but its URL if it does not answer."""
    return [_masked(_facts(replica, options), options) for replica in options.replicas]


def _facts(replica: Replica, options: Options) -> ServerFacts:
    base = Base(replica.secure, replica.host, replica.port, replica.root, replica.url)
    ask = asking(base, options.headers, TIMEOUT_S, ca=options.ca)
    facts = ENGINES[options.api].facts(lambda path: _get(ask, path), replica.root, options.model)
    model = facts.model
    return ServerFacts(
        replica.url,
        facts.version,
        model.digest or model.name,  # not every server tells a digest
        model.quantization,
        model.size,
        model.size_vram,
        model.context_length,
    )


def _masked(facts: ServerFacts, options: Options) -> ServerFacts:
    """Without a secret that the server repeats."""
    mask = Mask(options.headers)
    version, digest, quantization = (
        text and mask(text) for text in (facts.version, facts.digest, facts.quantization)
    )
    return replace(facts, version=version, digest=digest, quantization=quantization)


def _get(ask: Ask, path: str) -> JsonObject:
    """The JSON object that it answers; an empty one if it does not."""
    try:
        return ask(path).json
    except NoAnswer:
        return {}
