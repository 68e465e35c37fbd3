"""What an engine is to those who ask it: the interface that a module for each API fills.

All are found by the name of their API in engines/registry.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from contracts.json_object import JsonObject

if TYPE_CHECKING:
    from contracts.conversations import Conversation
    from contracts.generation import Generation
    from contracts.load import LoadSpec

#: The body of a request: its text before the prompt, between it and the seed, and after that.
BodyParts = tuple[bytes, bytes, bytes]
#: Takes in one line of a stream, complete at a time. Raises ValueError if it is not of the API.
ParseLine = Callable[["Generation", bytes, float], None]
#: The JSON object that a path of a server answers; an empty one if it does not answer.
Get = Callable[[str], JsonObject]


class BadUrl(ValueError):
    """What is wrong with a URL, to follow its name; never a user or a password in it."""


def placement(size: int, size_vram: int) -> str:
    """Return where a model of `size` bytes in memory sits, `size_vram` of them on GPUs: "gpu",
    "cpu", or "gpu+cpu" for a part of each."""
    if size_vram <= 0:
        return "cpu"
    return "gpu" if size_vram >= size else "gpu+cpu"


@dataclass(frozen=True)
class LoadedModel:
    """What a server says of a model that it has in memory; None when it does not. Sizes in bytes:
    in memory, and of that on GPUs; `context_length` in tokens."""

    name: str | None = None
    digest: str | None = None
    quantization: str | None = None
    parameters: str | None = None
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None

    @property
    def where(self) -> str:
        """ "gpu", "cpu", or "gpu+cpu" for a part of each."""
        return placement(self.size or 0, self.size_vram or 0)


@dataclass(frozen=True)
class Facts:
    """What a server says of itself and of the model that it was asked for: nothing of one that it
    does not have in memory."""

    version: str | None = None
    model: LoadedModel = LoadedModel()


class Reply(Protocol):
    """An answer of HTTP; `json` is {} if it is no object, `error` the server's own words."""

    @property
    def status(self) -> int:
        """That of HTTP."""

    @property
    def json(self) -> JsonObject:
        """The body."""

    @property
    def error(self) -> str:
        """Without a full stop."""


class Ask(Protocol):
    """Asks a server for a path: GET, or POST if there is a body. Raises what its maker says
    if there is no answer."""

    def __call__(self, path: str, body: JsonObject | None = None) -> Reply:
        """One request."""


@dataclass(frozen=True)
class Chat:
    """How an engine is asked with conversations: the path below the root, the parts of a body
    around one, and a conversation as it stands in between, `messages` and what follows them."""

    path: str
    body_of: Callable[[str, LoadSpec], BodyParts]
    encoded: Callable[[Conversation], bytes] = lambda it: it.encoded()


@dataclass(frozen=True)
class Engine:
    """What one must know of the servers of an API. A server's `root` is what stands before the
    API's own paths, such as /v1."""

    #: Of requests with a prompt, below the root.
    path: str
    #: What such a request asks a model for, by what each request of a load is to ask.
    body_of: Callable[[str, LoadSpec], BodyParts]
    parse_line: ParseLine
    #: By `get`, of the server at `root`, on a model.
    facts: Callable[[Get, str, str], Facts]
    #: Whether the server at `root` answers with a model, or a sentence why it does not yet. The
    #: last argument is what sentences call it. Raises ServiceError if the model fails.
    ready: Callable[[Ask, str, str, str], Facts | str]
    #: The root, by the path of a URL as its users write it. Raises BadUrl.
    root_of: Callable[[str], str]
    #: The root that goes without saying.
    usual_root: str = ""
    #: Of http://HOST; None: HTTP's.
    usual_port: int | None = None
    #: Whether lines are of server-sent events, which may end with carriage returns alone.
    events: bool = False
    #: For conversations; None: there is no such route.
    chat: Chat | None = None
    #: Where users of the API have their key, as its own programs look for it.
    key_variable: str | None = None
    #: The name under which a server lists the model that is asked for by another one.
    listed_as: Callable[[str], str] = str


def without_end(path: str, ends: tuple[str, ...]) -> str:
    """Return a path without the first of these ends that it has."""
    return path.removesuffix(next(filter(path.endswith, ends), ""))
