"""What /health says: every replica by name, and whether all, some or none of them answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from client.answers import entry_of, placement
from client.errors import ServiceError, Unreachable, error_object
from client.ollama import Ollama
from client.replicas import Replicas

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
ASKED_AT_ONCE = 32

# Of a replica that does not answer nothing is known.
_UNKNOWN = dict.fromkeys(("version", "model", "available", "loaded", "placement"))


def look(
    addresses: Sequence[str], model: str | None, ollama: Ollama, replicas: Replicas
) -> dict[str, Any]:
    """Ask all replicas now: `status`, `ollama` (one entry each) and, where none answers, `error`.

    Those that fail are taken out, those that answer are brought back.
    """

    def ask(address: str) -> dict[str, Any] | ServiceError:
        try:
            found = _ask(ollama, address, model)
        except ServiceError as error:
            replicas.take_out(address)
            return error
        replicas.bring_back(address)
        return found

    with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(addresses))) as pool:
        found = dict(zip(addresses, pool.map(ask, addresses), strict=True))
    errors = [answer for answer in found.values() if isinstance(answer, ServiceError)]
    entries = [_entry(address, a, replicas.outstanding(address)) for address, a in found.items()]
    if len(errors) < len(found):
        return {"status": DEGRADED if errors else HEALTHY, "ollama": entries}
    return {"status": UNHEALTHY, "ollama": entries, **_nobody(errors)}


def _ask(ollama: Ollama, address: str, model: str | None) -> dict[str, Any]:
    version, tags, running = (
        ollama.get(address, path) for path in ("/api/version", "/api/tags", "/api/ps")
    )
    listed, loaded = entry_of(tags, model), entry_of(running, model)
    return {
        "version": version.get("version"),
        "model": listed and listed.get("name"),
        "available": listed is not None,
        "loaded": loaded is not None,
        "placement": loaded and placement(loaded),
    }


def _entry(
    address: str, answer: Mapping[str, Any] | ServiceError, outstanding: int
) -> dict[str, Any]:
    failed = isinstance(answer, ServiceError)
    return {
        "address": address,
        "ok": not failed,
        "reason": str(answer) if failed else None,
        **(_UNKNOWN if isinstance(answer, ServiceError) else answer),
        "outstanding": outstanding,
    }


def _nobody(errors: Sequence[ServiceError]) -> dict[str, Any]:
    if len(errors) == 1:
        return error_object(errors[0].kind, str(errors[0]))
    words = f"None of the {len(errors)} replicas of Ollama answers. The first: {errors[0]}"
    return error_object(Unreachable.kind, words)
