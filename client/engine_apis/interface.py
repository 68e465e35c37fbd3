"""What the client service must know of an engine's API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from client.api.answers import Placement
from client.api.bodies import Query
from client.errors import RequestError
from contracts.json_object import JsonObject
from engines.engine import Get

#: Asks a path with a body. Raises RequestError.
Post = Callable[[str, JsonObject], JsonObject]


@dataclass(frozen=True)
class ModelState:
    """What a replica says of itself and of a model: its name and digest there, whether it is in
    memory, where it sits, the context that it has, in tokens, and the quantization of its weights.
    None: it does not say."""

    version: str | None
    listed: bool = False
    name: str | None = None
    digest: str | None = None
    loaded: bool = False
    placement: Placement | None = None
    context: int | None = None
    quantization: str | None = None


class EngineApi(Protocol):
    """An engine as the client service asks it. A `get` raises RequestError."""

    #: What sentences call the engine.
    name: str
    #: The API that it speaks as a rule, and all that it speaks, as `/benchmark` names them.
    speaks: tuple[str, ...]
    #: Where a query is sent.
    path: str

    def has(self, get: Get, model: str) -> bool:
        """Return whether a replica lists a model."""

    def state(self, get: Get, model: str | None) -> ModelState:
        """Return what a replica says. Raises RequestError: it does not answer."""

    def check_loads(self, post: Post, model: str) -> None:
        """Return if a replica could load a model that it lists. Raises RequestError."""

    def lacks(self, model: str) -> str:
        """Return what is to be said of a replica that does not list the model."""

    def prepare(self, query: Query, model: str) -> JsonObject:
        """Return the body for a query, whose prompt is to be refused rather than cut. Raises
        BadInput: it asks for what the engine does not know."""

    def one_token(self, model: str) -> JsonObject:
        """Return the body of a query that shows whether the model answers."""

    def whole(self, data: bytes) -> bytes:
        """Return the whole body of an answer as Ollama has it; what is none, as it is."""

    def lines(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a stream as Ollama's lines, each piece at once."""

    def refusal(self, status: int) -> type[RequestError]:
        """Return what a status other than 200 means."""
