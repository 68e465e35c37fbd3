"""The routes: each reads its body, asks the engine, and answers as OpenAI's API does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import unquote

from client.compatible.engine import Engine, EngineConnection
from client.compatible.errors import ApiError, NotFound, WrongMethod
from client.compatible.http_server import ClientConnection, Request
from client.compatible.lookups import Lookups, json_of
from client.compatible.pass_through import is_passed_on, pass_on
from client.compatible.refusals import Sent, refusal
from client.compatible.translate import models
from client.compatible.translate.chat import native_chat, needs, text_size
from client.compatible.translate.chat_answers import ChatEvents, whole_chat
from client.compatible.translate.chat_bodies import ChatBody
from client.compatible.translate.completion_bodies import CompletionBody, EmbeddingBody
from client.compatible.translate.completions import (
    CompletionEvents,
    native_completion,
    whole_completion,
)
from client.compatible.translate.embeddings import embeddings, native_embedding
from client.compatible.translate.events import Events
from client.compatible.validation import read
from engines.ollama import CHAT, EMBED, GENERATE

_MODELS = "/v1/models"
EVENTS = "text/event-stream; charset=utf-8"
#: A route: what is asked, and what it is answered on.
Route = Callable[[Request, ClientConnection], Awaitable[None]]


class Routes:
    """All of them, in front of one engine."""

    def __init__(self, engine: Engine, model: str) -> None:
        """`model` is that of requests that name none."""
        self._engine, self._model = engine, model
        self._lookups = Lookups(engine)
        self._routes: Mapping[str, Mapping[str, Route]] = {
            _MODELS: {"GET": self._list_models},
            "/v1/chat/completions": {"POST": self._chat},
            "/v1/completions": {"POST": self._complete},
            "/v1/embeddings": {"POST": self._embed},
        }

    async def handle(self, request: Request, client: ClientConnection) -> None:
        """Answer a request. Raises ApiError."""
        path = request.target.partition("?")[0]
        if is_passed_on(path):
            return await pass_on(self._engine, request, client)
        routes = self._routes.get(path)
        if routes is None and path.startswith(f"{_MODELS}/"):
            routes = {"GET": self._show_model}
        if routes is None:
            raise NotFound(f"Unknown request URL: {request.method} {path[:200]}.")
        route = routes.get(request.method)
        if route is None:
            raise WrongMethod(f"Not allowed to {request.method} on {path[:200]} (HINT: "
                              f"{' or '.join(routes)}).")  # fmt: skip
        return await route(request, client)

    # --- models ---

    async def _list_models(self, request: Request, client: ClientConnection) -> None:
        client.answer(200, models.listing(await self._lookups.tags()))

    async def _show_model(self, request: Request, client: ClientConnection) -> None:
        name = unquote(request.target.partition("?")[0].removeprefix(f"{_MODELS}/"))
        client.answer(200, models.entry(await self._lookups.tags(), name))

    # --- answers of a model ---

    async def _chat(self, request: Request, client: ClientConnection) -> None:
        body = read(request.body, ChatBody)
        model = body.model or self._model
        for capability, param in needs(body):
            await self._lookups.require(model, capability, param)
        native = native_chat(body, model, await self._think(body, model))
        sent = Sent(model, partial(text_size, body), "messages")
        async with self._engine.ask("POST", CHAT, native) as answer:
            await self._check(answer, sent)
            if body.stream:
                await stream(answer, ChatEvents(model, body.wants_usage), client)
            else:
                client.answer(200, whole_chat(await json_of(answer), model))

    async def _complete(self, request: Request, client: ClientConnection) -> None:
        body = read(request.body, CompletionBody)
        model = body.model or self._model
        if body.suffix:
            await self._lookups.require(model, "insert", "suffix")
        sent = Sent(model, lambda: len(body.prompt.encode()), "prompt")
        async with self._engine.ask("POST", GENERATE, native_completion(body, model)) as answer:
            await self._check(answer, sent)
            if body.stream:
                await stream(answer, CompletionEvents(model, body.wants_usage), client)
            else:
                client.answer(200, whole_completion(await json_of(answer), model))

    async def _embed(self, request: Request, client: ClientConnection) -> None:
        body = read(request.body, EmbeddingBody)
        model = body.model or self._model
        sent = Sent(model, lambda: max(len(text.encode()) for text in body.input), "input")
        async with self._engine.ask("POST", EMBED, native_embedding(body, model)) as answer:
            await self._check(answer, sent)
            client.answer(200, embeddings(await json_of(answer), body, model))

    async def _think(self, body: ChatBody, model: str) -> bool | str | None:
        """Ollama's `think`. Raises NotSupported: the model does not."""
        effort = body.reasoning_effort
        if effort is None or effort == "none":
            return None if effort is None else False
        facts = await self._lookups.require(model, "thinking", "reasoning_effort")
        return _LEVELS.get(effort, effort) if facts.has_levels else True

    async def _check(self, answer: EngineConnection, sent: Sent) -> None:
        """Raises what an answer that is no 200 means."""
        if answer.status != 200:
            raise await refusal(answer, sent, self._lookups)


#: Efforts that Ollama does not know, as those that it does.
_LEVELS = {"minimal": "low", "xhigh": "high"}


async def stream(answer: EngineConnection, events: Events, client: ClientConnection) -> None:
    """Pass a stream on as events, as they come; a failure on the way is the last of them, and ends
    the connection."""
    client.begin(200, EVENTS, answer)
    try:
        await answer.stream(lambda piece: client.write(events.feed(piece)))
        client.write(events.end())
    except ApiError as error:
        client.write(error.as_event())
        client.close_after()
    client.end()
