"""What can go wrong with documents, embeddings and the store, in a sentence each."""

from __future__ import annotations

from contracts.errors import OrchError


class RetrievalError(OrchError):
    """Base: the message is a sentence that names the thing, the cause and the remedy."""


class NoDocuments(RetrievalError):
    """There is nothing to ingest at a path."""


class Unusable(RetrievalError):
    """A file that is left out; `kind` is one of those of `retrieval.finding.Skipped`."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


class ChunksRefused(RetrievalError):
    """Whoever owns the store does not take these chunks, because of what is in them."""


class EmbeddingFailed(RetrievalError):
    """Ollama's answer is no embedding, or an error."""


class TooLong(RetrievalError):
    """A text has more tokens than the embedding model reads."""


class StoreUnreachable(RetrievalError):
    """Qdrant does not answer, or its storage is in use by somebody else."""


class StoreFailed(RetrievalError):
    """Qdrant answered with an error; the message has its words."""


class StoreRefused(StoreFailed):
    """Qdrant does not accept our key."""


class PointsRefused(StoreFailed):
    """Qdrant does not take what is in a request."""


class Mismatch(RetrievalError):
    """The collection was made with another embedding model, or for another dimension."""


class NoCollection(RetrievalError):
    """Nothing has been ingested into the collection yet."""
