"""The points of one collection, in Qdrant: a server by REST or gRPC, or a folder of our own.

The one place that talks to Qdrant, by qdrant-client alone. In a folder (qdrant-client's local mode)
it is for one process at a time, searches exactly, and holds all points in memory; what has been
upserted is on disk when `upsert` returns, as it is with a server (`wait`).

A collection notes the embedding model that it was made with in its metadata, which Qdrant has from
1.16 on.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from engines.names import same_model
from retrieval.errors import (
    Mismatch,
    NoCollection,
    PointsRefused,
    StoreFailed,
    StoreRefused,
    StoreUnreachable,
)
from retrieval.points import Filter, Hit, Point
from retrieval.settings import RetrievalSettings
from retrieval.turns import Turns

TIMEOUT_S = 30
#: Keys of a payload that are ours; a filter's other keys are looked for in the metadata.
OWN_KEYS = ("source", "heading", "position", "digest")
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_NOT_TAKEN = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class Store:
    """One collection. Made without a word to Qdrant; for any thread.

    Each method raises StoreUnreachable, StoreRefused or StoreFailed if Qdrant does not do what
    it is asked.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        self._settings = settings
        self._name = settings.collection
        self._lock = threading.RLock()
        self._opened: QdrantClient | None = None
        self._dimension: int | None = None  # once the collection is known to be ours
        self._turns = Turns(Path(settings.place), self.close)

    def close(self) -> None:
        """Release the folder, or end the connections."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = self._dimension = None
            self._turns.closed()

    def points(self) -> int:
        """Return how many points there are; 0 if the collection does not exist yet.

        Raises Mismatch if it is another embedding model's.
        """
        with self._talking() as client:
            return self._count(client)

    def no_points(self) -> NoCollection:
        """Return what to say if there are none."""
        return NoCollection(
            f"The collection {self._name} has no points yet; ingest documents with "
            "orch.py --ingest PATH."
        )

    def prepare(self, dimension: int) -> None:
        """Make the collection if it does not exist. Raises Mismatch if it is for vectors of
        another dimension or of another embedding model."""
        with self._talking() as client:
            if not self._exists(client):
                self._create(client, dimension)
                self._exists(client)
            self._check_dimension(dimension)

    def missing(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that are not there."""
        with self._talking() as client:
            if not self._exists(client):
                return set(ids)
            found = client.retrieve(self._name, list(ids), with_payload=False, with_vectors=False)
            return set(ids) - {str(record.id) for record in found}

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points; they are durable when this returns. Raises PointsRefused."""
        records = [
            models.PointStruct(id=point.id, vector=list(point.vector), payload=point.payload())
            for point in points
        ]
        with self._talking() as client:
            client.upsert(self._name, records, wait=True)

    def count(self, source: str, digest: str) -> int:
        """Return how many points one version of a document has."""
        same = models.Filter(must=[_equals("source", source), _equals("digest", digest)])
        with self._talking() as client:
            return self._count(client, same)

    def forget_others(self, source: str, digest: str) -> int:
        """Remove the points of all other versions of a document; how many there were."""
        ours, current = _equals("source", source), _equals("digest", digest)
        others = models.Filter(must=[ours], must_not=[current])
        with self._talking() as client:
            found = self._count(client, others)
            if found:
                selector = models.FilterSelector(filter=others)
                client.delete(self._name, points_selector=selector, wait=True)
            return found

    def drop(self) -> None:
        """Remove the collection with all its points; if there is none, nothing happens."""
        with self._talking() as client:
            client.delete_collection(self._name)
            self._dimension = None

    def search(self, vector: Sequence[float], top_k: int, where: Filter | None = None) -> list[Hit]:
        """Return the `top_k` nearest points, best first, among those that `where` lets through.

        Raises NoCollection, Mismatch.
        """
        with self._talking() as client:
            if not self._exists(client):
                raise self.no_points()
            self._check_dimension(len(vector))
            found = client.query_points(
                self._name,
                query=list(vector),
                limit=top_k,
                query_filter=filter_of(where) if where else None,
                with_payload=True,
            )
            return [Hit.of(point.score, point.payload or {}) for point in found.points]

    # --- the collection ---

    def _count(self, client: QdrantClient, which: models.Filter | None = None) -> int:
        if not self._exists(client):
            return 0
        return client.count(self._name, count_filter=which, exact=True).count

    def _exists(self, client: QdrantClient) -> bool:
        """Also that it is ours; what is found is believed until Qdrant says something else."""
        if self._dimension is not None:
            return True
        if not client.collection_exists(self._name):
            return False
        config = client.get_collection(self._name).config
        model = (config.metadata or {}).get("embedding_model")
        if not same_model(str(model), self._settings.embedding_model):
            source = f"with the embedding model {model}" if model else "by another program"
            raise Mismatch(
                f"The collection {self._name} was made {source}, and the deployment embeds with "
                f"{self._settings.embedding_model}; name that model, or another collection."
            )
        vectors = config.params.vectors
        self._dimension = vectors.size if isinstance(vectors, models.VectorParams) else 0
        return True

    def _create(self, client: QdrantClient, dimension: int) -> None:
        client.create_collection(
            self._name,
            vectors_config=models.VectorParams(size=dimension, distance=models.Distance.COSINE),
            metadata={"embedding_model": self._settings.embedding_model},
        )
        for key in () if self._settings.embedded else ("source", "digest"):
            client.create_payload_index(self._name, key, models.PayloadSchemaType.KEYWORD)

    def _check_dimension(self, dimension: int) -> None:
        if self._dimension != dimension:
            raise Mismatch(
                f"The collection {self._name} is for vectors of {self._dimension} dimensions, and "
                f"those of {self._settings.embedding_model} have {dimension}; name another one."
            )

    # --- Qdrant ---

    @contextlib.contextmanager
    def _talking(self) -> Iterator[QdrantClient]:
        """The client, opened if it is not; its errors as ours. The local mode is for one thread
        at a time."""
        with self._in_words():
            if not self._settings.embedded:
                yield self._client()
                return
            with self._lock:
                self._turns.used()
                yield self._client()
                self._turns.used()

    def _client(self) -> QdrantClient:
        with self._lock:
            self._opened = self._opened or self._open()
            return self._opened

    def _open(self) -> QdrantClient:
        """Without the proxies of the environment, in both protocols."""
        if self._settings.embedded:
            Path(self._settings.place).mkdir(parents=True, exist_ok=True)
            return self._turns.acquire(self._open_folder, lambda error: _TAKEN in str(error))
        with warnings.catch_warnings():
            # A key over plain HTTP: the network inside a cluster is as safe as its file system.
            warnings.simplefilter("ignore", UserWarning)
            return QdrantClient(
                url=self._settings.place,
                https=self._settings.place.startswith("https://"),
                api_key=self._settings.key(),
                prefer_grpc=self._settings.grpc_port is not None,
                grpc_port=self._settings.grpc_port or 6334,
                grpc_options={"grpc.enable_http_proxy": 0},
                timeout=TIMEOUT_S,
                check_compatibility=False,
                trust_env=False,
            )

    def _open_folder(self) -> QdrantClient:
        return QdrantClient(path=self._settings.place, force_disable_check_same_thread=True)

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        where = self._settings.place
        try:
            yield
        except ResponseHandlingException as error:
            raise StoreUnreachable(f"Qdrant at {where} does not answer: {error}.") from error
        except UnexpectedResponse as error:
            self._dimension = None
            kind, words = StoreFailed, error.content[:500].decode("utf-8", "replace")
            if error.status_code in (401, 403):
                kind, words = StoreRefused, _KEY
            elif error.status_code in (400, 413, 422):
                kind = PointsRefused
            raise kind(f"Qdrant at {where} answered {error.status_code}: {words}") from error
        except grpc.RpcError as error:
            raise self._grpc_in_words(error) from error
        except (OSError, RuntimeError) as error:  # of the folder; RuntimeError: it is locked
            raise StoreUnreachable(self._folder_in_words(error)) from error
        except sqlite3.Error as error:  # of the folder: a full disk, for one
            raise StoreFailed(self._folder_in_words(error)) from error
        except ValueError as error:
            raise PointsRefused(f"Qdrant at {where} cannot do it: {error}.") from error

    def _grpc_in_words(self, error: Any) -> StoreFailed | StoreUnreachable:
        code, where = error.code(), f"{self._settings.place} (gRPC {self._settings.grpc_port})"
        if code in _UNREACHABLE:
            return StoreUnreachable(f"Qdrant at {where} does not answer: {error.details()}.")
        if code in _REFUSED:
            return StoreRefused(f"Qdrant at {where} answered {code.name}: {_KEY}")
        kind = PointsRefused if code in _NOT_TAKEN else StoreFailed
        return kind(f"Qdrant at {where} answered {code.name}: {error.details()}.")

    def _folder_in_words(self, error: Exception) -> str:
        if _TAKEN in str(error):
            return (
                f"The storage {self._settings.place} is in use by the client service of another "
                "deployment, which works with it all the time; stop that one, or name another "
                "collection."
            )
        return f"The storage {self._settings.place} cannot be used: {error}."


#: qdrant-client's words for a folder that another process has open.
_TAKEN = "already accessed"
_KEY = "it does not accept the API key; is it the key of this deployment's Qdrant?"


def filter_of(where: Filter) -> models.Filter:
    """Return a filter: all keys must have their value, or one of a list of values."""
    conditions = []
    for key, it in where.items():
        path = key if key in OWN_KEYS else f"metadata.{key}"
        match = models.MatchAny(any=it) if isinstance(it, list) else models.MatchValue(value=it)
        conditions.append(models.FieldCondition(key=path, match=match))
    return models.Filter(must=list(conditions))


def _equals(key: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
