"""The routes: each reads its body, asks the engine, and answers as its API does."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from urllib.parse import unquote

from client.compatible import dialects
from client.compatible.bearers import Report, fields_of, report_nothing
from client.compatible.dialects import Conversation, Dialect, Whole
from client.compatible.engine_client import Asked, EngineClient
from client.compatible.errors import MESSAGES, NotFound
from client.compatible.http_server import ClientConnection, Request
from client.compatible.lookups import Lookups, json_of
from client.compatible.refusals import Sent, refusal
from client.compatible.routing import MODELS, Route, found_route, stream
from client.compatible.translate import models
from client.compatible.translate.chat import THINKING, level, native_chat, needs, text_size
from client.compatible.translate.completion_bodies import CompletionBody, EmbeddingBody
from client.compatible.translate.completions import (
    CompletionEvents,
    native_completion,
    whole_completion,
)
from client.compatible.translate.embeddings import embeddings, native_embedding
from client.compatible.translate.events import Events
from client.compatible.translate.native import usage_of
from client.compatible.validation import read
from engines.ollama import CHAT, EMBED, GENERATE

#: A capability, and the key of a body that asks for it.
Need = tuple[str, str]


class Routes:
    """All of them, in front of one engine."""

    def __init__(self, engine: EngineClient, model: str, report: Report = report_nothing) -> None:
        """`model` is that of requests that name none; `report` is told of the tokens of answers."""
        self._engine, self._model, self._report = engine, model, report
        self._lookups = Lookups(engine)
        self._routes: Mapping[str, Mapping[str, Route]] = {
            MODELS: {"GET": self._list_models},
            f"{MODELS}/": {"GET": self._show_model},
            "/v1/chat/completions": {"POST": partial(self._chat, dialects.chat)},
            "/v1/responses": {"POST": partial(self._chat, dialects.response)},
            MESSAGES: {"POST": partial(self._chat, dialects.message)},
            f"{MESSAGES}/count_tokens": {"POST": self._count_tokens},
            "/v1/completions": {"POST": self._complete},
            "/v1/embeddings": {"POST": self._embed},
        }

    def handle(self, request: Request, client: ClientConnection) -> Coroutine[object, object, None]:
        """Ask the engine, and return what answers the request. Both raise ApiError."""
        return found_route(self._routes, request)(request, client)

    # --- models ---

    async def _list_models(self, request: Request, client: ClientConnection) -> None:
        client.answer(200, models.listing(await self._lookups.tags()))

    async def _show_model(self, request: Request, client: ClientConnection) -> None:
        name = unquote(request.target.partition("?")[0].removeprefix(f"{MODELS}/"))
        client.answer(200, models.entry(await self._lookups.tags(), name))

    # --- answers of a model ---

    def _chat(
        self, dialect: Dialect, request: Request, client: ClientConnection
    ) -> Coroutine[object, object, None]:
        asked = dialect(request.body)
        effort, wanted = asked.chat.reasoning_effort, list(needs(asked.chat))
        if wanted:
            return self._able_chat(asked, wanted, client)
        return self._asked_chat(asked, None if effort is None else False, client)

    async def _able_chat(
        self, asked: Conversation, wanted: Sequence[Need], client: ClientConnection
    ) -> None:
        """If the model can what is wanted."""
        model = asked.chat.model or self._model
        think: bool | str | None = False if asked.chat.reasoning_effort == "none" else None
        for capability, param in wanted:
            facts = await self._lookups.require(model, capability, asked.param(param))
            if capability == THINKING:
                think = level(asked.chat) if facts.has_levels else True
        await self._asked_chat(asked, think, client)

    def _asked_chat(
        self, asked: Conversation, think: bool | str | None, client: ClientConnection
    ) -> Coroutine[object, object, None]:
        chat, model = asked.chat, asked.chat.model or self._model
        engine = self._engine.ask(
            "POST", CHAT, native_chat(chat, model, think), fields_of(client.request)
        )
        client.on_gone = engine.let_go
        sent = Sent(model, partial(text_size, chat), asked.param("messages"))
        events = asked.events(model) if chat.stream else None
        return self._answer(engine, sent, client, events, asked.whole)

    async def _count_tokens(self, request: Request, client: ClientConnection) -> None:
        raise NotFound("Tokens are not counted here, as Ollama counts those of a prompt only as it "
                       "answers: they are in the usage of an answer.")  # fmt: skip

    def _complete(
        self, request: Request, client: ClientConnection
    ) -> Coroutine[object, object, None]:
        body = read(request.body, CompletionBody)
        model = body.model or self._model
        return self._completion(body, model, client)

    async def _completion(self, body: CompletionBody, model: str, client: ClientConnection) -> None:
        if body.suffix:
            await self._lookups.require(model, "insert", "suffix")
        asked = self._engine.ask(
            "POST", GENERATE, native_completion(body, model), fields_of(client.request)
        )
        sent = Sent(model, lambda: len(body.prompt.encode()), "prompt")
        events = CompletionEvents(model, body.wants_usage) if body.stream else None
        await self._answer(asked, sent, client, events, whole_completion)

    async def _embed(self, request: Request, client: ClientConnection) -> None:
        body = read(request.body, EmbeddingBody)
        model = body.model or self._model
        sent = Sent(model, lambda: max(len(text.encode()) for text in body.input), "input")
        asked = self._engine.ask("POST", EMBED, native_embedding(body, model), fields_of(request))
        whole = partial(embeddings, body)
        await self._answer(asked, sent, client, None, whole)

    async def _answer(
        self,
        asked: Asked,
        sent: Sent,
        client: ClientConnection,
        events: Events | None,
        whole: Whole,
    ) -> None:
        """Answer with `events`, or if there are none with what `whole` makes of the engine's answer
        and the model. Raises ApiError."""
        async with asked as answer:
            if answer.status != 200:
                raise await refusal(answer, sent, self._lookups)
            if events is not None:
                await stream(answer, events, client, self._report)
            else:
                found = await json_of(answer)
                client.answer(200, whole(found, sent.model))
                self._report(client.request, usage_of(found))
