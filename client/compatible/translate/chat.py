"""A chat as Ollama's /api/chat has it, from what OpenAI's API asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from client.compatible.compact import compact
from client.compatible.translate.bodies import WHOLE
from client.compatible.translate.chat_bodies import ChatBody, Message, Part, Tool, ToolCall
from contracts.json_object import JsonObject

_NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}}

THINKING = "thinking"
#: Efforts that Ollama does not know, as those that it does.
_LEVELS = {"minimal": "low", "xhigh": "high"}


def native_chat(body: ChatBody, model: str, think: bool | str | None) -> bytes:
    """Return the body for /api/chat."""
    limit = body.max_completion_tokens or body.max_tokens
    more = {
        "tools": _tools(body),
        "format": _format(body),
        "think": think,
        "logprobs": body.logprobs,
        "top_logprobs": body.top_logprobs,
    }
    asked = {
        "model": model,
        "messages": list(_messages(body.messages)),
        "stream": bool(body.stream),
        **WHOLE,
        "options": body.options(limit),
        **{name: value for name, value in more.items() if value is not None},
    }
    return compact(asked)


def needs(body: ChatBody) -> Iterator[tuple[str, str]]:
    """Yield what the model must be able to, as Ollama calls it, each with the key that asks for it:
    of images Ollama says nothing if a model sees none."""
    if _tools(body):
        yield "tools", "tools"
    if any(part.image_url for message in body.messages for part in _parts(message)):
        yield "vision", "messages"
    if body.reasoning_effort not in (None, "none"):
        yield THINKING, "reasoning_effort"


def level(body: ChatBody) -> str:
    """Return the effort as Ollama has it, of a model whose thinking has levels."""
    effort = body.reasoning_effort or ""
    return _LEVELS.get(effort, effort)


def text_size(body: ChatBody) -> int:
    """Return the bytes of all texts of a conversation."""
    return sum(len(_text(message).encode()) for message in body.messages)


class OllamaMessage(TypedDict, total=False):
    """A message as /api/chat takes it."""

    role: str
    content: str
    images: Sequence[str]
    thinking: str
    tool_calls: Sequence[JsonObject]
    tool_name: str
    tool_call_id: str


def _messages(messages: Sequence[Message]) -> Iterator[OllamaMessage]:
    names: dict[str, str] = {}  # of the functions, by the ids of their calls
    for message in messages:
        found: OllamaMessage = {"role": _role(message.role), "content": _text(message)}
        images = [p.image_url.url for p in _parts(message) if p.image_url is not None]
        thinking = message.reasoning or message.reasoning_content
        if images:
            found["images"] = images
        if thinking:
            found["thinking"] = thinking
        if message.tool_calls:
            names.update((call.id or "", call.function.name) for call in message.tool_calls)
            found["tool_calls"] = [_call(call, i) for i, call in enumerate(message.tool_calls)]
        if message.role == "tool":
            called = message.tool_call_id or ""
            found["tool_name"] = message.name or names.get(called, "")
            found["tool_call_id"] = called
        yield found


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _parts(message: Message) -> Sequence[Part]:
    return message.content if isinstance(message.content, list) else ()


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = [part.text or part.refusal for part in _parts(message)]
    return "\n".join(text for text in texts if text) or message.refusal or ""


def _call(call: ToolCall, number: int) -> JsonObject:
    function = {**call.function.model_dump(), "index": number}
    return {"id": call.id or "", "function": function}


def _tools(body: ChatBody) -> list[JsonObject] | None:
    if not body.tools or body.tool_choice == "none":
        return None
    return [_tool(tool) for tool in body.tools]


def _tool(tool: Tool) -> JsonObject:
    """Ollama reads no function without the properties of its parameters."""
    function = {
        "name": tool.function.name,
        "description": tool.function.description or "",
        "parameters": {**_NO_PARAMETERS, **(tool.function.parameters or {})},
    }
    return {"type": "function", "function": function}


def _format(body: ChatBody) -> str | JsonObject | None:
    asked = body.response_format
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_schema" and asked.json_schema is not None:
        return asked.json_schema.schema_
    return "json"
