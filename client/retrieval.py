"""Retrieval in the client service: it owns the store, and embeds by the deployment's Ollama."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from client.api.answers import (
    DEGRADED,
    HEALTHY,
    Collection,
    Health,
    PointsAnswer,
    RefusedChunk,
)
from client.api.bodies import Chunk, Nearest, Points, Query
from client.errors import (
    BadInput,
    NoRetrieval,
    NotReady,
    OllamaFailed,
    OtherCollection,
    QdrantFailed,
    QdrantUnreachable,
    RequestError,
)
from client.ollama.addresses import AddressFile
from client.ollama.whole_prompts import too_long
from contracts.json_object import JsonObject
from retrieval import errors
from retrieval.chunks import point_id, with_heading
from retrieval.embeddings import Embedded, Embedder, Vector
from retrieval.points import Hit, Point, build
from retrieval.settings import RetrievalSettings

if TYPE_CHECKING:
    from retrieval.store import Store

_KINDS: Mapping[type[errors.RetrievalError], type[RequestError]] = {
    errors.StoreUnreachable: QdrantUnreachable,
    errors.StoreRefused: QdrantFailed,
    errors.StoreFailed: QdrantFailed,
    errors.PointsRefused: QdrantFailed,
    errors.ChunksRefused: BadInput,
    errors.Mismatch: OtherCollection,
    errors.NoCollection: NoRetrieval,
    errors.EmbeddingFailed: OllamaFailed,
}


_METRIC = "orch_client_retrieval_running"
_UNDER_WAY = "Requests that find or store chunks now."


@dataclass(frozen=True)
class Retrieved:
    """What a question finds, best first, and how long its steps took, in seconds."""

    hits: Sequence[Hit]
    embed_s: float
    search_s: float


class Retriever(Collector):
    """Finds and stores chunks. If there are no `settings`, each call raises NoRetrieval.

    `embed` sends a body to /api/embed; `addresses` are the replicas that it may go to; in `output`
    Qdrant's job writes where it is.
    """

    def __init__(
        self,
        settings: RetrievalSettings | None,
        embed: Callable[[bytes], JsonObject],
        addresses: AddressFile,
        output: Path,
    ) -> None:
        self._settings = settings
        self._embed_body = embed
        self._addresses = addresses
        job = (settings.job if settings else None) or ""
        self._qdrant = AddressFile(output, job, "qdrant", "Qdrant")
        self._store = _store(settings) if settings else None
        self._lock = threading.Lock()
        self._under_way = 0

    # --- questions ---

    def prepare(self, query: Query) -> tuple[Query, Retrieved | None]:
        """Return a query that asks for sources with them in its prompt, and what they are.

        Raises NoRetrieval, OtherCollection, QdrantFailed, QdrantUnreachable, and what asking
        Ollama raises.
        """
        if query.retrieval is False:
            return query, None
        which = Nearest() if query.retrieval is True else query.retrieval
        found = self.find(query.prompt, which)
        prompt = build(query.prompt, found.hits)
        return query.model_copy(update={"prompt": prompt}), found

    def find(self, question: str, which: Nearest) -> Retrieved:
        """Return the chunks nearest to a question. Raises as `prepare` does."""
        with self._asking() as (settings, store):
            started_at = time.perf_counter()
            vector = self._embed_question(question)
            embedded = time.perf_counter()
            hits = store.search(vector, which.top_k or settings.top_k, which.filter)
            return Retrieved(hits, embedded - started_at, time.perf_counter() - embedded)

    def check(self) -> None:
        """Return if a question may be asked. Raises NoRetrieval, OtherCollection, QdrantFailed,
        QdrantUnreachable."""
        _, store = self._configured()
        with _in_words():
            if not store.points():
                raise store.no_points()

    # --- points ---

    def put(self, points: Points) -> PointsAnswer:
        """Store what is missing of the chunks, and, once all of this version of the document are
        there, remove its other versions. Those that the model does not embed are named.

        Raises BadInput if Qdrant does not take them, and what `prepare` raises."""
        source, version = points.source, points.version
        with self._asking() as (settings, store):
            document = (settings.collection, source, version)
            by_id = {point_id(*document, chunk.position): chunk for chunk in points.chunks}
            missing = store.missing(list(by_id)) if by_id else set()
            new = {key: chunk for key, chunk in by_id.items() if key in missing}
            embedded = self._add(store, new, source, version) if new else Embedded([], 0, {})
            there = store.count(source, version)
            complete = there >= points.count
            removed = store.forget_others(source, version) if complete else 0
        return PointsAnswer(
            points=there,
            complete=complete,
            added=len(new) - len(embedded.refused),
            present=len(by_id) - len(new),
            removed=removed,
            truncated=embedded.truncated,
            refused=_refused(list(new.values()), embedded),
        )

    def _add(
        self, store: Store, chunks: Mapping[str, Chunk], source: str, version: str
    ) -> Embedded:
        """Embed and store; what became of it."""
        embedded = self._embed([with_heading(c.heading, c.text) for c in chunks.values()])
        points = [
            Point(key, vector, source=source, digest=version, **dict(chunk))
            for (key, chunk), vector in zip(chunks.items(), embedded.vectors, strict=True)
            if vector is not None
        ]
        if points:
            store.prepare(len(points[0].vector))
            try:
                store.upsert(points)
            except errors.PointsRefused as error:
                raise errors.ChunksRefused(str(error)) from error
        return embedded

    # --- health ---

    def judge(self, health: Health, problem: str | None) -> Health:
        """Return what /health says, with the state of the collection if there is retrieval: a
        service that does not reach it, or could not embed a question (`problem`), is degraded."""
        if self._settings is None:
            return health
        points = None
        try:
            _, store = self._configured()
            with _in_words():
                points = store.points()
        except RequestError as error:
            problem = str(error)
        state = Collection(
            collection=self._settings.collection,
            embedding_model=self._settings.embedding_model,
            qdrant="embedded" if self._settings.embedded else self._settings.place,
            ok=problem is None,
            reason=problem,
            points=points,
        )
        degraded = problem is not None and health.status == HEALTHY
        status = DEGRADED if degraded else health.status
        return health.model_copy(update={"retrieval": state, "status": status})

    # --- parts ---

    def _configured(self) -> tuple[RetrievalSettings, Store]:
        if self._settings is None or self._store is None:
            raise NoRetrieval(
                "This deployment has no retrieval; give its recipe a section job.service.retrieval."
            )
        if self._settings.job is not None:
            self._locate(self._settings)
        return self._settings, self._store

    def _locate(self, settings: RetrievalSettings) -> None:
        """Find the server's job, which may not be there yet, or have begun anew elsewhere. Raises
        QdrantUnreachable."""
        try:
            found = replace(settings, place=f"http://{self._qdrant.read()[0]}")
        except NotReady as error:
            raise QdrantUnreachable(str(error)) from error
        with self._lock:
            if found != self._settings:
                self._settings, self._store = found, _store(found)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[tuple[RetrievalSettings, Store]]:
        """Where to find or to store, with errors as answers; it is under way until this ends."""
        with self._lock:
            self._under_way += 1
        try:
            with _in_words():
                yield self._configured()
        finally:
            with self._lock:
                self._under_way -= 1

    def collect(self) -> Iterator[Metric]:
        """Yield how many are finding or storing, if there is retrieval."""
        if self._settings is not None:
            yield GaugeMetricFamily(_METRIC, _UNDER_WAY, value=float(self._under_way))

    def _embed(self, texts: Sequence[str]) -> Embedded:
        settings, _ = self._configured()
        replicas = self._addresses.read()
        return Embedder(settings.embedding_model, self._ask, lambda: len(replicas)).embed(texts)

    def _embed_question(self, question: str) -> Vector:
        embedded = self._embed([question])
        (vector,) = embedded.vectors
        if vector is None:
            raise errors.EmbeddingFailed(embedded.refused[0])
        return vector

    def _ask(self, body: JsonObject) -> JsonObject:
        try:
            return self._embed_body(json.dumps(body).encode())
        except OllamaFailed as error:
            if too_long(error):
                raise errors.TooLong(str(error)) from error
            raise errors.EmbeddingFailed(str(error)) from error


def _refused(chunks: Sequence[Chunk], embedded: Embedded) -> list[RefusedChunk]:
    return [
        RefusedChunk(position=chunks[number].position, reason=why)
        for number, why in embedded.refused.items()
    ]


def _store(settings: RetrievalSettings) -> Store:
    """qdrant-client takes a second to import and some memory: only if there is retrieval."""
    from retrieval.store import Store

    return Store(settings)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """What goes wrong in retrieval as an answer with its status."""
    try:
        yield
    except errors.RetrievalError as error:
        raise _KINDS[type(error)](str(error)) from error
