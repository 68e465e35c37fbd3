"""What a caller of the client service can be told, each with its HTTP status."""

from __future__ import annotations

from typing import Any


class ServiceError(Exception):
    """What a caller is told: a sentence, `kind` for programs, and the HTTP status."""

    status = 500
    kind = "internal"


class BadInput(ServiceError):
    """The request makes no sense; the message names all that is wrong with it."""

    status, kind = 400, "bad_request"


class Unknown(ServiceError):
    """There is no such benchmark."""

    status, kind = 404, "not_found"


class Conflict(ServiceError):
    """Not now, or not under this id."""

    status, kind = 409, "conflict"


class NoRetrieval(ServiceError):
    """The deployment has no retrieval, or nothing was ingested yet."""

    status, kind = 409, "no_retrieval"


class OtherCollection(ServiceError):
    """The collection was made with another embedding model, or for another dimension."""

    status, kind = 409, "collection_mismatch"


class NotPublished(ServiceError):
    """This service's own address, which a benchmark with retrieval asks, is not known (yet)."""

    status, kind = 409, "address_not_published"


class NoRoom(ServiceError):
    """A benchmark with retrieval asks this service, which has no room for so many clients."""

    status, kind = 409, "no_room"


class Unsupported(ServiceError):
    """The body is not declared as JSON."""

    status, kind = 415, "unsupported_media_type"


class Busy(ServiceError):
    """Ollama's own queue is full."""

    status, kind = 429, "ollama_busy"


class OllamaFailed(ServiceError):
    """Ollama answered with an error; the message has its words."""

    status, kind = 502, "ollama_error"


class QdrantFailed(ServiceError):
    """Qdrant answered with an error; the message has its words."""

    status, kind = 502, "qdrant_error"


class QdrantUnreachable(ServiceError):
    """Qdrant does not answer, or its storage is in use by another deployment."""

    status, kind = 503, "qdrant_unreachable"


class NotReady(ServiceError):
    """Ollama's address is not known (yet, or any more)."""

    status, kind = 503, "ollama_not_ready"


class Unreachable(ServiceError):
    """Ollama does not answer at its address."""

    status, kind = 503, "ollama_unreachable"


class Unanswered(Unreachable):
    """No byte of an answer came, so that another replica may be asked."""


class TooSlow(ServiceError):
    """Ollama did not answer in time."""

    status, kind = 504, "timeout"


class CannotWrite(ServiceError):
    """The output directory takes no results."""

    status, kind = 500, "output_not_writable"


class BenchmarkFailed(ServiceError):
    """The load generator could not measure."""

    status, kind = 502, "benchmark_failed"


def error_object(kind: str, message: str) -> dict[str, Any]:
    """The one shape that every error has."""
    return {"error": {"type": kind, "message": message}}
