"""What the servers say of themselves, before a run and after it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadgen.options import RETRIEVAL, Options, Replica
from loadgen.records import ServerFacts

TIMEOUT_S = 3.0


def look(options: Options) -> Sequence[ServerFacts]:
    """Each replica's own words; nothing but its URL where it does not answer."""
    return [_ASK[options.api](replica, options.model) for replica in options.replicas]


def _ollama(replica: Replica, model: str) -> ServerFacts:
    """Ollama's GET /api/version and /api/ps: digest and sizes only of a model that is loaded."""
    version = _get(replica, "/api/version").get("version")
    if version is None:  # it is gone: not to be waited for a second time
        return ServerFacts(replica.url)
    loaded = [m for m in _get(replica, "/api/ps").get("models") or () if isinstance(m, dict)]
    found = next((m for m in loaded if same_model(str(m.get("name")), model)), {})
    details = found.get("details") or {}
    return ServerFacts(
        replica.url,
        _text(version),
        # a server that is not Ollama may name a model without a digest
        _text(found.get("digest") or found.get("name")),
        _text(details.get("quantization_level")),
        _whole(found.get("size")),
        _whole(found.get("size_vram")),
        _whole(found.get("context_length")),
    )


def _openai(replica: Replica, model: str) -> ServerFacts:
    """GET /v1/models; and /version, which vLLM has. It says nothing of where a model sits."""
    models = _get(replica, "/v1/models").get("data") or ()
    named = any(isinstance(m, dict) and m.get("id") == model for m in models)
    version = _get(replica, "/version").get("version")
    return ServerFacts(replica.url, _text(version), model if named else None)


def _client_service(replica: Replica, model: str) -> ServerFacts:
    """The client service's GET /health: the replicas of Ollama that answer it, as if they were one.
    It tells no digest, so a model that is loaded by all of them goes by its name."""
    listed = _get(replica, "/health").get("ollama") or ()
    there = [one for one in listed if isinstance(one, dict) and one.get("ok")]
    version = ", ".join(sorted({str(one.get("version")) for one in there})) or None
    loaded = [str(one.get("model")) for one in there if one.get("loaded")]
    if len(loaded) < len(there) or not all(same_model(name, model) for name in loaded):
        return ServerFacts(replica.url, version)
    places = [one.get("placement") or {} for one in there]
    size, size_vram = (_sum(place.get(key) for place in places) for key in ("size", "size_vram"))
    name = next(iter(loaded), None)
    return ServerFacts(replica.url, version, name, size=size, size_vram=size_vram)


def _sum(values: Iterable[object]) -> int | None:
    """None where there is nothing to add up, or not all is known."""
    found = [_whole(value) for value in values]
    known = [value for value in found if value is not None]
    return sum(known) if found and len(known) == len(found) else None


_ASK = {"ollama": _ollama, "openai": _openai, RETRIEVAL: _client_service}


def same_model(name: str, wanted: str) -> bool:
    """Whether Ollama means the same by both: a name without a tag has the tag latest."""
    return name == wanted or name == f"{wanted}:latest"


def _get(replica: Replica, path: str) -> Mapping[str, Any]:
    """The JSON object that it answers; an empty one where it does not."""
    connection = http.client.HTTPConnection(replica.host, replica.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
