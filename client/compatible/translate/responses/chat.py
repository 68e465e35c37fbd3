"""What OpenAI's responses ask of a chat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from client.compatible.translate import chat_bodies as chat
from client.compatible.translate.chat_bodies import ChatBody, Part
from client.compatible.translate.responses.bodies import Item, ItemPart, ResponsesBody

#: What keys of a chat's body are called in this one.
PARAMS = {"messages": "input", "reasoning_effort": "reasoning.effort"}


def chat_of(body: ResponsesBody) -> ChatBody:
    """Return the same as a chat."""
    tools = [chat.Tool(type="function", function=tool) for tool in body.tools or ()]
    return ChatBody(
        model=body.model,
        messages=list(_messages(body)),
        stream=body.stream,
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        tools=tools or None,
        tool_choice=body.tool_choice,
        reasoning_effort=None if body.reasoning is None else body.reasoning.effort,
        response_format=_format(body),
    )


def _messages(body: ResponsesBody) -> Iterator[chat.Message]:
    if body.instructions:
        yield chat.Message(role="system", content=body.instructions)
    if isinstance(body.input, str):
        yield chat.Message(role="user", content=body.input)
        return
    for is_answer, some in groupby(body.input, _is_answer):
        items = list(some)
        yield from [_answer(items)] if is_answer else map(_asked, items)


def _is_answer(item: Item) -> bool:
    return item.role == "assistant" or item.type in ("function_call", "reasoning")


def _answer(items: Sequence[Item]) -> chat.Message:
    """What the model thought, said and called before is one message in a chat."""
    calls = [_call(item) for item in items if item.type == "function_call"]
    thoughts = (_thought(item) for item in items if item.type == "reasoning")
    return chat.Message(
        role="assistant",
        content=[part for item in items if item.type == "message" for part in _parts(item.content)],
        reasoning="\n".join(filter(None, thoughts)) or None,
        tool_calls=calls or None,
    )


def _asked(item: Item) -> chat.Message:
    if item.type == "function_call_output":
        return chat.Message(role="tool", content=_content(item.output), tool_call_id=item.call_id)
    return chat.Message(role=item.role or "user", content=_content(item.content))


def _thought(item: Item) -> str:
    """What others have encrypted means nothing here."""
    parts = _parts(item.content) or _parts(item.summary)
    return "\n".join(part.text or "" for part in parts)


def _call(item: Item) -> chat.ToolCall:
    function = chat.CalledFunction.model_construct(
        name=item.name or "", arguments=item.arguments or {}
    )
    return chat.ToolCall(id=item.call_id, function=function)


def _content(parts: str | Sequence[ItemPart] | None) -> str | list[Part]:
    return parts if isinstance(parts, str) else _parts(parts)


def _parts(parts: str | Sequence[ItemPart] | None) -> list[Part]:
    if isinstance(parts, str):
        return [Part(type="text", text=parts)]
    return [_part(part) for part in parts or ()]


def _part(part: ItemPart) -> Part:
    if part.type == "input_image" and part.image_url is not None:
        image = chat.ImageUrl.model_construct(url=part.image_url)
        return Part(type="image_url", image_url=image)
    return Part(type="text", text=part.text or part.refusal or "")


def _format(body: ResponsesBody) -> chat.ResponseFormat | None:
    form = body.text.format if body.text is not None else None
    if form is None:
        return None
    schema = None if form.schema_ is None else chat.JsonSchema(schema=form.schema_)
    return chat.ResponseFormat(type=form.type, json_schema=schema)
