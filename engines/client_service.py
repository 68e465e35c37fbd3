"""Our own client service, as a server of the API that --retrieval means: /query with retrieval,
and /health, which speaks for the replicas of Ollama behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contracts.errors import ServiceError
from contracts.job_files import DEFAULT_PORTS
from contracts.json_object import JsonObject
from engines.engine import Ask, BodyParts, Engine, Facts, Get, LoadedModel, without_end
from engines.json_values import count_of, number_of, object_of, part_of
from engines.names import listed_as, same_model
from engines.ollama import UNFINISHED, body_of, ollama_line

if TYPE_CHECKING:
    from contracts.generation import Generation
    from contracts.load import LoadSpec

HEALTH, QUERY = "/health", "/query"
#: That of /health if what it speaks for will not answer however long one waits.
FAILED = 502


def retrieval_line(answer: Generation, line: bytes, at: float) -> None:
    """Parse a line of /query with retrieval (docs/retrieval.md): the first one has no text, but the
    times of what came before the model; the others are Ollama's."""
    if answer.search is None and not line.endswith(UNFINISHED):
        timings = object_of(line).get("timings")
        if isinstance(timings, dict):
            answer.embed, answer.search = number_of(timings, "embed"), number_of(timings, "search")
            return
    ollama_line(answer, line, at)


def _facts(get: Get, root: str, model: str) -> Facts:
    return _facts_of(get(f"{root}{HEALTH}"), model)


def _facts_of(health: JsonObject, model: str) -> Facts:
    """Of the replicas that answer, as if they were one. It tells nothing of a model that not all of
    them have in memory, and of none the digest."""
    there = [replica for replica in _replicas(health) if replica.get("ok")]
    version = ", ".join(sorted({str(replica.get("version")) for replica in there})) or None
    loaded = [str(replica.get("model")) for replica in there if replica.get("loaded")]
    if len(loaded) < len(there) or not all(same_model(name, model) for name in loaded):
        return Facts(version)
    places = [part_of(replica, "placement") for replica in there]
    size, size_vram = (_sum(places, key) for key in ("size", "size_vram"))
    return Facts(version, LoadedModel(next(iter(loaded), None), size=size, size_vram=size_vram))


def _replicas(health: JsonObject) -> list[JsonObject]:
    listed = health.get("ollama")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _sum(places: Sequence[JsonObject], key: str) -> int | None:
    """None if there is nothing to add up, or not all is known."""
    found = [count_of(place, key) for place in places]
    known = [value for value in found if value is not None]
    return sum(known) if found and len(known) == len(found) else None


def _ready(ask: Ask, root: str, model: str, name: str) -> Facts | str:
    """Every query would be answered. One that only has something to say, as that its model has left
    memory, is ready."""
    health = ask(f"{root}{HEALTH}")
    if health.status == FAILED:
        raise ServiceError(f"{health.error.rstrip('.')}.")
    if health.status != 200:
        return health.error
    retrieval = part_of(health.json, "retrieval")
    if not retrieval.get("ok", True):
        return str(retrieval.get("reason"))
    problems = (str(r.get("reason")) for r in _replicas(health.json) if not r.get("ok"))
    return next(problems, None) or _facts_of(health.json, model)


def _root_of(path: str) -> str:
    return without_end(path, (QUERY, HEALTH))


def _body_of(model: str, load: LoadSpec) -> BodyParts:
    return body_of(model, load, '"retrieval": true, ')


CLIENT_SERVICE = Engine(
    path=QUERY,
    body_of=_body_of,
    parse_line=retrieval_line,
    facts=_facts,
    ready=_ready,
    root_of=_root_of,
    usual_port=DEFAULT_PORTS["client"],
    listed_as=listed_as,
)
