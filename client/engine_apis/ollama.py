"""Ollama's own API: queries and answers go as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from client.api.answers import Placement
from client.api.bodies import Query
from client.engine_apis.interface import ModelState, Post
from client.errors import Busy, ModelMissing, OllamaFailed, Refused, RequestError
from contracts.json_object import JsonObject
from engines.engine import Get
from engines.json_values import text_of
from engines.names import entry_of, loaded_entry
from engines.ollama import (
    GENERATE,
    NO_SUCH_MODEL,
    QUEUE_FULL,
    RUNNING,
    SHOW,
    TAGS,
    VERSION,
    loaded_model,
    one_token,
)

#: What a query says beside its prompt, as Ollama has it.
_PASSED_ON = ("system", "options", "think", "format", "keep_alive")


class OllamaApi:
    """Of Ollama, which speaks OpenAI's, too."""

    name = "Ollama"
    speaks: tuple[str, ...] = ("ollama", "openai")
    path = GENERATE

    def has(self, get: Get, model: str) -> bool:
        """Return whether it has it on disk."""
        return entry_of(get(TAGS), model) is not None

    def state(self, get: Get, model: str | None) -> ModelState:
        """Ask for its version, its models, and those in memory."""
        version, tags, running = (get(path) for path in (VERSION, TAGS, RUNNING))
        own = text_of(version, "version")
        listed = entry_of(tags, model) if model else None
        loaded = loaded_entry(tags, running, model) if model else None
        if model is None or listed is None:
            return ModelState(own)
        return ModelState(
            own,
            listed=True,
            name=text_of(listed, "name"),
            digest=text_of(listed, "digest"),
            loaded=loaded is not None,
            placement=None if loaded is None else placement_of(loaded),
            context=loaded_model(loaded or {}).context_length or None,
            quantization=loaded_model(loaded or {}).quantization,
        )

    def check_loads(self, post: Post, model: str) -> None:
        """Of a model that is on disk: Ollama shows only what it can read."""
        post(SHOW, {"model": model})

    def lacks(self, model: str) -> str:
        """Say what may have become of it."""
        return (
            f"does not have the model {model} any more: somebody has deleted it, there or on disk; "
            "deploy again."
        )

    def prepare(self, query: Query, model: str) -> JsonObject:
        """Without `truncate` Ollama cuts a prompt, and says nothing of it."""
        more = {name: value for name in _PASSED_ON if (value := getattr(query, name)) is not None}
        body = {"model": model, "prompt": query.prompt, "stream": query.stream}
        return {**body, "truncate": False, **more}

    def one_token(self, model: str) -> JsonObject:
        """Return that of engines.ollama."""
        return one_token(model)

    def whole(self, data: bytes) -> bytes:
        """Return it as it is."""
        return data

    def lines(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield them as they are."""
        yield from pieces

    def refusal(self, status: int) -> type[RequestError]:
        """By the statuses that Ollama gives them."""
        if status == QUEUE_FULL:
            return Busy
        if status == NO_SUCH_MODEL:
            return ModelMissing
        return Refused if 400 <= status < 500 else OllamaFailed


def placement_of(entry: JsonObject) -> Placement:
    """Return where a model of /api/ps sits."""
    model = loaded_model(entry)
    return Placement(size=model.size or 0, size_vram=model.size_vram or 0, where=model.where)
