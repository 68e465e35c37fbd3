"""What a caller of the client service can be told, each with its HTTP status."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.api.answers import ErrorWords


class RequestError(Exception):
    """What a caller is told: a sentence, `kind` for programs, the HTTP status, and whether it
    `passes`: then he is told when to ask again."""

    status = 500
    kind = "internal"
    passes = False

    @property
    def words(self) -> ErrorWords:
        """What the caller is told."""
        from client.api.answers import ErrorWords  # pydantic's; many who raise these have no caller

        return ErrorWords(type=self.kind, message=str(self))


class BadInput(RequestError):
    """The request makes no sense; the message names all that is wrong with it."""

    status, kind = 400, "bad_request"


class PromptTooLong(BadInput):
    """The prompt has more tokens than the model's context; the message has both numbers."""

    kind = "prompt_too_long"


class BadCredential(RequestError):
    """The credential of a login is none, is too old, was used before, or is for another place."""

    status, kind = 401, "bad_credential"


class NotAllowed(RequestError):
    """Who has made the credential may not log in."""

    status, kind = 403, "not_allowed"


class NotShared(RequestError):
    """Nobody logs in to this deployment."""

    status, kind = 404, "not_shared"


class Unknown(RequestError):
    """There is no such benchmark."""

    status, kind = 404, "not_found"


class Conflict(RequestError):
    """Not now, or not under this id."""

    status, kind = 409, "conflict"


class NameInUse(RequestError):
    """The owner has given a token of the name of who logs in."""

    status, kind = 409, "name_in_use"


class NoRetrieval(RequestError):
    """The deployment has no retrieval, or nothing was ingested yet."""

    status, kind = 409, "no_retrieval"


class OtherCollection(RequestError):
    """The collection was made with another embedding model, or for another dimension."""

    status, kind = 409, "collection_mismatch"


class NotPublished(RequestError):
    """This service's own address, which a benchmark with retrieval asks, is not known (yet)."""

    status, kind = 409, "address_not_published"


class NoDoor(RequestError):
    """There is no door to measure through."""

    status, kind = 409, "no_door"


class NoRoom(RequestError):
    """A benchmark with retrieval asks this service, which has no room for so many clients."""

    status, kind = 409, "no_room"


class Unsupported(RequestError):
    """The body is not declared as JSON."""

    status, kind = 415, "unsupported_media_type"


class Busy(RequestError):
    """The engine's own queue is full."""

    status, kind, passes = 429, "ollama_busy", True


class OllamaFailed(RequestError):
    """The engine answered with an error; the message has its words."""

    status, kind = 502, "ollama_error"

    def __init__(self, message: str, body: bytes = b"") -> None:
        """`body` is what came with the error."""
        super().__init__(message)
        self.body = body


class Refused(OllamaFailed):
    """The engine takes no such request (a status of 400 to 499)."""


class ModelMissing(Refused):
    """The engine does not have the model."""


class QdrantFailed(RequestError):
    """Qdrant answered with an error; the message has its words."""

    status, kind = 502, "qdrant_error"


class QdrantUnreachable(RequestError):
    """Qdrant does not answer, is about to open its storage, or another deployment uses that."""

    status, kind, passes = 503, "qdrant_unreachable", True


class Unreachable(RequestError):
    """The engine does not answer at its address."""

    status, kind = 503, "ollama_unreachable"


class Died(Unreachable):
    """The door has closed the connection: engines died each time that they had the request."""


class LoadsModel(Unreachable):
    """The engine answers that it still loads its model."""

    kind = "ollama_not_ready"


class DoorSilent(RequestError):
    """HAProxy, which is at the door, does not say how things stand."""

    status, kind = 503, "door_silent"


class NotReady(RequestError):
    """The engine's address is not known (yet, or any more), or it still loads its model."""

    status, kind = 503, LoadsModel.kind


class ServerNotReady(RequestError):
    """The server that is measured does not answer yet."""

    status, kind = 503, "server_not_ready"


class ServerFailed(RequestError):
    """The server that is measured does not take what it is asked for; the message has its words."""

    status, kind = 502, "server_error"


class NotServed(RequestError):
    """The deployment measures a server that it has not started, and passes no queries on to it."""

    status, kind = 409, "not_served"


class NoMunge(RequestError):
    """MUNGE does not answer on the service's host."""

    status, kind = 503, "no_munge"


class TooSlow(RequestError):
    """The engine did not answer in time."""

    status, kind = 504, "timeout"


class CannotWrite(RequestError):
    """The output directory takes no results."""

    status, kind = 500, "output_not_writable"


class BenchmarkFailed(RequestError):
    """The load generator could not measure."""

    status, kind = 502, "benchmark_failed"
