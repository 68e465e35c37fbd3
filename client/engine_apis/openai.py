"""OpenAI's API, as llama.cpp's server and others speak it: a query becomes a chat, and its answer
is given as Ollama would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from client.api.answers import Placement
from client.api.bodies import Query
from client.engine_apis.interface import ModelState, Post
from client.engine_apis.openai_answers import ollama_lines, whole_answer
from client.errors import (
    BadInput,
    Busy,
    LoadsModel,
    ModelMissing,
    OllamaFailed,
    Refused,
    RequestError,
)
from contracts.json_object import JsonObject
from engines.engine import Get
from engines.json_values import text_of
from engines.openai import MODELS, listed_entry, one_token, openai_keys
from engines.servers.deployed import Deployed

#: Each answer: of who does not take a stream llama.cpp's server does not see that he has gone.
_STREAMED: JsonObject = {"stream": True, "stream_options": {"include_usage": True}}


class OpenAIApi:
    """Of an engine that speaks no other. It has one model, in memory from its start on."""

    def __init__(self, deployed: Deployed) -> None:
        engine = deployed.engine
        self.name = deployed.title
        self.speaks: tuple[str, ...] = (deployed.api,)
        self._engine, self._options = engine, deployed.query_options
        self.path = f"{engine.usual_root}{engine.path}"
        self._models = f"{engine.usual_root}{MODELS}"

    def has(self, get: Get, model: str) -> bool:
        """Return whether it is the model that it has."""
        return listed_entry(get(self._models), model) is not None

    def state(self, get: Get, model: str | None) -> ModelState:
        """Return what its list says, and whatever else is known of such engines."""
        listing = get(self._models)

        def get_more(path: str) -> JsonObject:
            try:
                return listing if path == self._models else get(path)
            except Refused:  # it has no such path
                return {}

        listed = listed_entry(listing, model) if model else None
        facts = self._engine.facts(get_more, self._engine.usual_root, str(model))
        if listed is None:
            return ModelState(facts.version)
        found = facts.model
        known = found.size is not None and found.size_vram is not None
        return ModelState(
            facts.version,
            listed=True,
            name=text_of(listed, "id"),
            digest=found.digest,
            loaded=True,
            placement=Placement(size=found.size, size_vram=found.size_vram, where=found.where)
            if known
            else None,
            context=found.context_length,
        )

    def check_loads(self, post: Post, model: str) -> None:
        """Return: it lists what it has loaded."""

    def lacks(self, model: str) -> str:
        """Say that another one is there."""
        return f"does not have the model {model}; deploy again."

    def prepare(self, query: Query, model: str) -> JsonObject:
        """What cannot be asked of this engine is refused by name."""
        if query.keep_alive is not None:
            raise BadInput(
                f"keep_alive does not go with {self.name}, whose model stays in memory: leave it "
                "out."
            )
        given = query.options or {}
        unknown = [str(name) for name in given if name not in self._options]
        if unknown:
            raise BadInput(
                f"options has {', '.join(unknown[:5])}, which {self.name} takes with no query; it "
                f"takes {', '.join(self._options)}."
            )
        asked = {self._options[name]: value for name, value in given.items()}
        if _no_limit(asked.get("max_tokens")):
            del asked["max_tokens"]
        extras = {name: value for name in ("think", "format")
                  if (value := getattr(query, name)) is not None}  # fmt: skip
        system = [{"role": "system", "content": query.system}] if query.system else []
        messages = [*system, {"role": "user", "content": query.prompt}]
        body = {"model": model, "messages": messages, **_STREAMED}
        return {**body, **asked, **openai_keys(extras)}

    def one_token(self, model: str) -> JsonObject:
        """Return that of engines.openai."""
        return {**one_token(model), **_STREAMED}

    def whole(self, data: bytes) -> bytes:
        """Return the whole of a chat's events."""
        return whole_answer(data)

    def lines(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines of a chat's events."""
        return ollama_lines(pieces)

    def refusal(self, status: int) -> type[RequestError]:
        """By what HTTP means with them, and 503 of a server that loads its model."""
        kinds = {404: ModelMissing, 429: Busy, 503: LoadsModel}
        return kinds.get(status, Refused if 400 <= status < 500 else OllamaFailed)


def _no_limit(number: object) -> bool:
    """Whether it is Ollama's word for as many tokens as come."""
    return isinstance(number, int) and number < 0
