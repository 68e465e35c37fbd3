"""Retrieval in the client service: it owns the store, and embeds by the deployment's Ollama."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.addresses import AddressFile
from client.errors import (
    NoRetrieval,
    OllamaFailed,
    OtherCollection,
    QdrantFailed,
    QdrantUnreachable,
    ServiceError,
)
from client.health import DEGRADED, HEALTHY
from retrieval import errors
from retrieval.chunks import point_id, with_heading
from retrieval.embeddings import Embedded, Embedder
from retrieval.prompt import build
from retrieval.settings import Settings

if TYPE_CHECKING:
    from retrieval.store import Hit, Store

_KINDS: Mapping[type[errors.RetrievalError], type[ServiceError]] = {
    errors.StoreUnreachable: QdrantUnreachable,
    errors.StoreRefused: QdrantFailed,
    errors.StoreFailed: QdrantFailed,
    errors.Mismatch: OtherCollection,
    errors.NoCollection: NoRetrieval,
    errors.EmbeddingFailed: OllamaFailed,
}


@dataclass(frozen=True)
class Found:
    """What a question finds, best first, and how long its steps took, in seconds."""

    hits: Sequence[Hit]
    embed_s: float
    search_s: float

    @property
    def timings(self) -> dict[str, float]:
        """The times of the steps by name."""
        return {"embed": self.embed_s, "search": self.search_s}


class Retrieval:
    """Finds and stores chunks. Where there are no `settings`, each call raises NoRetrieval.

    `embed` sends a body to /api/embed; `addresses` are the replicas that it may go to.
    """

    def __init__(
        self,
        settings: Settings | None,
        embed: Callable[[bytes], dict[str, Any]],
        addresses: AddressFile,
    ) -> None:
        self._settings = settings
        self._embed_body = embed
        self._addresses = addresses
        self._store = _store(settings) if settings else None

    # --- questions ---

    def prepare(self, given: dict[str, Any]) -> Found | None:
        """Take `retrieval` out of a query; where it asks for sources, put them into its prompt.

        Raises NoRetrieval, OtherCollection, QdrantFailed, QdrantUnreachable, and what asking
        Ollama raises.
        """
        asked = given.pop("retrieval", None)
        if not asked:
            return None
        options = asked if isinstance(asked, dict) else {}
        found = self.find(given["prompt"], **options)
        given["prompt"] = build(given["prompt"], found.hits)
        given["truncate"] = False  # it would be the instruction and the best sources that go
        return found

    def find(
        self, question: str, top_k: int | None = None, filter: Mapping[str, Any] | None = None
    ) -> Found:
        """The chunks nearest to a question. Raises as `prepare` does."""
        settings, store = self._configured()
        with _in_words():
            began = time.perf_counter()
            (vector,) = self._embed([question]).vectors
            embedded = time.perf_counter()
            hits = store.search(vector, top_k or settings.top_k, filter)
            return Found(hits, embedded - began, time.perf_counter() - embedded)

    def check(self) -> None:
        """Whether a question may be asked. Raises NoRetrieval, OtherCollection, QdrantFailed,
        QdrantUnreachable."""
        _, store = self._configured()
        with _in_words():
            if not store.points():
                raise store.no_points()

    # --- points ---

    def put(
        self, source: str, version: str, count: int, chunks: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Store what is missing of `chunks`, and, once all `count` of this version of a document
        are there, remove its other versions. Raises as `prepare` does."""
        settings, store = self._configured()
        with _in_words():
            document = (settings.collection, source, version)
            by_id = {point_id(*document, chunk["position"]): chunk for chunk in chunks}
            missing = store.missing(list(by_id)) if by_id else set()
            new = {key: chunk for key, chunk in by_id.items() if key in missing}
            truncated = self._add(store, new, source, version) if new else 0
            there = store.count(source, version)
            complete = there >= count > 0
            removed = store.forget_others(source, version) if complete else 0
        return {
            "points": there,
            "complete": complete,
            "added": len(new),
            "present": len(by_id) - len(new),
            "removed": removed,
            "truncated": truncated,
        }

    def _add(
        self, store: Store, chunks: Mapping[str, Mapping[str, Any]], source: str, version: str
    ) -> int:
        """Embed and store; of how many chunks the model did not read the end."""
        from retrieval.store import Point

        texts = [with_heading(c.get("heading") or "", c["text"]) for c in chunks.values()]
        embedded = self._embed(texts)
        store.prepare(len(embedded.vectors[0]))
        store.upsert(
            [
                Point(key, vector, source=source, digest=version, **chunk)
                for (key, chunk), vector in zip(chunks.items(), embedded.vectors, strict=True)
            ]
        )
        return embedded.truncated

    # --- health ---

    def judge(self, health: dict[str, Any]) -> dict[str, Any]:
        """What /health says, with the state of the collection where there is retrieval: a service
        that does not reach it is degraded."""
        if self._settings is None or self._store is None:
            return health
        state: dict[str, Any] = {"ok": True, "reason": None, "points": None}
        try:
            with _in_words():
                state["points"] = self._store.points()
        except ServiceError as error:
            state.update(ok=False, reason=str(error))
            if health["status"] == HEALTHY:
                health["status"] = DEGRADED
        about = {
            "collection": self._settings.collection,
            "embedding_model": self._settings.embedding_model,
            "qdrant": "embedded" if self._settings.embedded else self._settings.place,
        }
        return {**health, "retrieval": {**about, **state}}

    # --- parts ---

    def _configured(self) -> tuple[Settings, Store]:
        if self._settings is None or self._store is None:
            raise NoRetrieval(
                "This deployment has no retrieval; give its recipe a section job.service.retrieval."
            )
        return self._settings, self._store

    def _embed(self, texts: Sequence[str]) -> Embedded:
        settings, _ = self._configured()
        replicas = self._addresses.read()
        return Embedder(settings.embedding_model, self._ask, lambda: len(replicas)).embed(texts)

    def _ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._embed_body(json.dumps(body).encode())
        except OllamaFailed as error:
            if too_long(error):
                raise errors.TooLong(str(error)) from error
            raise


def too_long(error: OllamaFailed) -> bool:
    """Whether a text has more tokens than the model reads: Ollama has no other sign of it."""
    return "exceeds the context length" in str(error)


def _store(settings: Settings) -> Store:
    """qdrant-client takes a second to import and some memory: only where there is retrieval."""
    from retrieval.store import Store

    return Store(settings)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """What goes wrong in retrieval as an answer with its status."""
    try:
        yield
    except errors.RetrievalError as error:
        raise _KINDS[type(error)](str(error)) from error
