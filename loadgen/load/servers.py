"""What the servers say of themselves, before a run and after it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engines.headers import Mask
from engines.registry import ENGINES
from engines.tls import http_client
from loadgen.measurements import ServerFacts
from loadgen.options import Options, Replica

TIMEOUT_S = 3.0


def probe(options: Options) -> Sequence[ServerFacts]:
    """Return what each replica says of itself; nothing but its URL if it does not answer."""
    return [_masked(_facts(replica, options), options) for replica in options.replicas]


def _facts(replica: Replica, options: Options) -> ServerFacts:
    facts = ENGINES[options.api].facts(
        lambda path: _get(replica, options, path), replica.root, options.model
    )
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


def _get(replica: Replica, options: Options, path: str) -> Mapping[str, Any]:
    """The JSON object that it answers; an empty one if it does not."""
    connection = http_client(replica.secure, replica.host, replica.port, TIMEOUT_S, options.ca)
    try:
        connection.request("GET", path, headers=dict(options.headers))
        answer = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}
