"""What the engine says of its models: which there are, their contexts, whether they think."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from client.compatible.engine_client import EngineClient
from client.compatible.engine_connection import EngineConnection
from client.compatible.errors import ApiError, EngineFailed, ModelNotFound, NotSupported
from contracts.json_object import JsonObject
from engines.json_values import count_of, object_of, part_of, text_of
from engines.names import entry_of
from engines.ollama import RUNNING, SHOW, TAGS, loaded_model

#: How long what was said is believed.
FRESH_S = 60.0
#: Models whose thinking has levels, by what reads their answers, and by their family.
_LEVELS, _LEVELS_FAMILIES = "harmony", ("gptoss", "gpt-oss")


@dataclass(frozen=True)
class ModelFacts:
    """What /api/show says of a model: what it can (None if that is not said), whether its thinking
    has levels, and the context that it was made for, in tokens."""

    capabilities: frozenset[str] | None
    has_levels: bool
    context: int | None
    at: float


class Lookups:
    """Asks the engine, and remembers for a while."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._known: dict[str, ModelFacts] = {}

    async def tags(self) -> JsonObject:
        """Return what /api/tags lists. Raises ApiError."""
        async with self._engine.ask("GET", TAGS) as answer:
            return await json_of(answer)

    async def facts(self, model: str) -> ModelFacts:
        """Return what is known of a model. Raises ModelNotFound, ApiError."""
        found = self._known.get(model)
        if found is None or time.monotonic() - found.at > FRESH_S:
            found = self._known[model] = await self._shown(model)
        return found

    async def require(self, model: str, capability: str, param: str) -> ModelFacts:
        """Return what is known of a model. Raises NotSupported if it cannot do what that key of a
        body asks for, and as `facts` does."""
        facts = await self.facts(model)
        if facts.capabilities is not None and capability not in facts.capabilities:
            words = f"{model} has no {capability} ({param} asks for it)"
            raise NotSupported(f"{words}: leave that out, or ask another model.", param)
        return facts

    async def context(self, model: str) -> int | None:
        """Return the tokens that the model reads and writes at most: those that it was loaded
        with, else those that it was made for; None if nobody says."""
        try:
            async with self._engine.ask("GET", RUNNING) as answer:
                entry = entry_of(await json_of(answer), model)
            return loaded_model(entry or {}).context_length or (await self.facts(model)).context
        except ApiError:
            return None

    async def _shown(self, model: str) -> ModelFacts:
        body = json.dumps({"model": model}).encode()
        async with self._engine.ask("POST", SHOW, body) as answer:
            if answer.status == 404:
                raise ModelNotFound(model)
            shown = await json_of(answer)
        listed, details = shown.get("capabilities"), part_of(shown, "details")
        capabilities = frozenset(map(str, listed)) if isinstance(listed, list) else None
        of_levels = text_of(details, "family") in _LEVELS_FAMILIES
        levels = of_levels or text_of(shown, "parser") == _LEVELS
        return ModelFacts(capabilities, levels, _made_for(shown), time.monotonic())


def _made_for(shown: JsonObject) -> int | None:
    info = part_of(shown, "model_info")
    lengths = (count_of(info, key) for key in info if key.endswith(".context_length"))
    return next(lengths, None)


async def json_of(answer: EngineConnection) -> JsonObject:
    """Return an answer that is a JSON object. Raises EngineFailed, EngineGone, TooSlow."""
    data = await answer.read()
    if answer.status != 200:
        raise EngineFailed(f"The engine answered {answer.status}: {data[:200]!r}.")
    try:
        return object_of(data)
    except (ValueError, RecursionError) as error:
        raise EngineFailed(f"The engine sent what is no JSON object: {data[:100]!r}.") from error
