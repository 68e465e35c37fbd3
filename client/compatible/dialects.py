"""The APIs in which a chat is asked for: what each asks of it, and how each is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from client.compatible.translate.chat_answers import ChatEvents, whole_chat
from client.compatible.translate.chat_bodies import ChatBody
from client.compatible.translate.events import Events
from client.compatible.translate.messages import chat as messages
from client.compatible.translate.messages.answers import MessageEvents, whole_message
from client.compatible.translate.messages.bodies import MessagesBody
from client.compatible.translate.responses import chat as responses
from client.compatible.translate.responses.answers import ResponseEvents, whole_response
from client.compatible.translate.responses.bodies import ResponsesBody
from client.compatible.validation import read
from contracts.json_object import JsonObject

#: Makes the answer, of Ollama's and the model.
Whole = Callable[[JsonObject, str], JsonObject]


@dataclass(frozen=True)
class Conversation:
    """A chat that is asked for; `events` makes its stream, and is given the model. `params` has the
    keys of a chat that the API calls otherwise."""

    chat: ChatBody
    events: Callable[[str], Events]
    whole: Whole
    params: Mapping[str, str] = field(default_factory=dict)

    def param(self, key: str) -> str:
        """Return what the API calls a key of a chat."""
        return self.params.get(key, key)


#: Reads a body. Raises BadRequest.
Dialect = Callable[[bytes], Conversation]


def chat(data: bytes) -> Conversation:
    """Read a body of POST /v1/chat/completions. Raises BadRequest."""
    body = read(data, ChatBody)
    return Conversation(body, lambda model: ChatEvents(model, body.wants_usage), whole_chat)


def message(data: bytes) -> Conversation:
    """Read a body of POST /v1/messages. Raises BadRequest."""
    body = read(data, MessagesBody)
    return Conversation(
        messages.chat_of(body),
        partial(MessageEvents, body),
        partial(whole_message, body),
        messages.PARAMS,
    )


def response(data: bytes) -> Conversation:
    """Read a body of POST /v1/responses. Raises BadRequest."""
    body = read(data, ResponsesBody)
    return Conversation(
        responses.chat_of(body),
        partial(ResponseEvents, body),
        partial(whole_response, body),
        responses.PARAMS,
    )
