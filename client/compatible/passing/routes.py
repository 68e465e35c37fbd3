"""The routes in front of an engine that has them itself."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from functools import partial
from urllib.parse import unquote

from client.compatible.bearers import Report, fields_of, report_nothing
from client.compatible.compact import compact
from client.compatible.engine_client import EngineClient
from client.compatible.engine_connection import EngineConnection
from client.compatible.errors import (
    MESSAGES,
    ApiError,
    BadRequest,
    ContextLengthExceeded,
    ModelNotFound,
    NotOffered,
)
from client.compatible.http_server import ClientConnection, Request
from client.compatible.lookups import json_of
from client.compatible.passing.collecting import collected
from client.compatible.passing.events import PassedEvents
from client.compatible.passing.media import only_inline
from client.compatible.passing.usage import usage_in
from client.compatible.refusals import by_status
from client.compatible.routing import MODELS, Route, found_route, stream
from client.compatible.validation import with_finite_numbers
from contracts.json_object import JsonObject
from engines.json_values import error_text, object_of, part_of
from engines.openai import listed_entry
from engines.tokens import says_too_long, told_lengths

#: The key of a body that has the prompt, by the path.
_PROMPTS = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
    MESSAGES: "messages",
    f"{MESSAGES}/count_tokens": "messages",
}
#: Paths whose streams are of chunks, which tell no counts of tokens unless they are asked to.
_CHUNKED = ("/v1/chat/completions", "/v1/completions")
#: Statuses with which an engine, or what stands in front of it, says that it has no such path.
_NO_SUCH_PATH = (403, 404, 405, 501)


class PassingRoutes:
    """All of them, in front of one engine."""

    def __init__(
        self, engine: EngineClient, title: str, model: str, report: Report = report_nothing
    ) -> None:
        """`title` is what sentences call the engine; `model` that of requests that name none;
        `report` is told of the tokens of answers."""
        self._engine, self._title, self._model, self._report = engine, title, model, report
        self._routes: Mapping[str, Mapping[str, Route]] = {
            MODELS: {"GET": self._list_models},
            f"{MODELS}/": {"GET": self._show_model},
            **{path: {"POST": partial(self._pass, path)} for path in _PROMPTS},
        }

    def handle(self, request: Request, client: ClientConnection) -> Coroutine[object, object, None]:
        """Return what answers the request. Both raise ApiError."""
        return found_route(self._routes, request)(request, client)

    async def _list_models(self, request: Request, client: ClientConnection) -> None:
        client.answer(200, await self._models())

    async def _show_model(self, request: Request, client: ClientConnection) -> None:
        name = unquote(request.target.partition("?")[0].removeprefix(f"{MODELS}/"))
        found = listed_entry(await self._models(), name)
        if found is None:
            raise ModelNotFound(name)
        client.answer(200, found)

    async def _models(self) -> JsonObject:
        async with self._engine.ask("GET", MODELS) as answer:
            return await json_of(answer)

    async def _pass(self, path: str, request: Request, client: ClientConnection) -> None:
        given = _object(request.body)
        only_inline(given.get(_PROMPTS[path]), _PROMPTS[path])
        body = {**given, "model": await self._known(given.get("model"))}
        counts_wanted = bool(part_of(given, "stream_options").get("include_usage"))
        if path in _CHUNKED:
            options = {**part_of(given, "stream_options"), "include_usage": True}
            body |= {"stream": True, "stream_options": options}
        events = PassedEvents(path.startswith(MESSAGES), not counts_wanted)
        asked = self._engine.ask("POST", path, compact(body), fields_of(request))
        client.on_gone = asked.let_go
        async with asked as answer:
            await self._answer(path, answer, events if given.get("stream") else None, client)

    async def _answer(
        self,
        path: str,
        answer: EngineConnection,
        events: PassedEvents | None,
        client: ClientConnection,
    ) -> None:
        """By `events`; if there are none, the answer goes out whole."""
        if answer.status != 200:
            raise await self._refusal(path, answer)
        if events is not None:
            await stream(answer, events, client, self._report)
        else:
            found = collected(await answer.read()) if path in _CHUNKED else await json_of(answer)
            client.answer(200, found)
            self._report(client.request, usage_in(found))

    async def _known(self, model: object) -> str:
        """The model that is meant. Some engines answer with theirs whatever they are asked for.
        Raises ModelNotFound."""
        if model is None or model == self._model:
            return self._model
        if not isinstance(model, str):
            raise BadRequest("model must be a text.", "model", "invalid_type")
        if listed_entry(await self._models(), model) is None:
            raise ModelNotFound(model)
        return model

    async def _refusal(self, path: str, answer: EngineConnection) -> ApiError:
        """What a status other than 200 is to the caller."""
        body = await answer.read()
        words, param = answer.refusal(error_text(body, most=500)), _PROMPTS[path]
        lengths = told_lengths(body)
        if lengths is not None:
            return ContextLengthExceeded(
                f"This model's maximum context length is {lengths[1]} tokens. However, {param} "
                f"came with {lengths[0]} tokens: please send less.",
                param,
            )
        if says_too_long(words):
            return ContextLengthExceeded(words, param)
        if answer.status in _NO_SUCH_PATH:
            return NotOffered(f"{self._title} does not answer {path} here: {words}")
        if "not supported" in words:  # llama.cpp says so with 500
            return BadRequest(f"{self._title} refuses this: {words}", code="unsupported_parameter")
        return by_status(answer, words)


def _object(body: bytes) -> JsonObject:
    try:
        found = object_of(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body must be a JSON object of the API, in UTF-8.",
                         code="invalid_json") from error  # fmt: skip
    with_finite_numbers(body)
    return found
