"""What Anthropic's messages ask of a chat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from client.compatible.translate import chat_bodies as chat
from client.compatible.translate.chat_bodies import ChatBody, Effort, Part
from client.compatible.translate.messages.bodies import (
    Block,
    Message,
    MessagesBody,
    Shown,
    TextBlock,
    Tool,
)

#: What keys of a chat's body are called in this one.
PARAMS = {"reasoning_effort": "thinking"}


def chat_of(body: MessagesBody) -> ChatBody:
    """Return the same as a chat."""
    return ChatBody(
        model=body.model,
        messages=list(_messages(body)),
        stream=body.stream,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=body.stop_sequences,
        tools=None if body.tools is None else [_tool(tool) for tool in body.tools],
        tool_choice=None if body.tool_choice is None else body.tool_choice.type,
        reasoning_effort=_effort(body),
        response_format=_format(body),
    )


def _messages(body: MessagesBody) -> Iterator[chat.Message]:
    if body.system:
        yield chat.Message(role="system", content=_content(body.system))
    for message in body.messages:
        if isinstance(message.content, str):
            yield chat.Message(role=message.role, content=message.content)
        elif message.role == "assistant":
            yield _answer(message.content)
        else:
            yield from _asked(message, message.content)


def _answer(blocks: Sequence[Block]) -> chat.Message:
    """What the model said before."""
    calls = [_call(block) for block in blocks if block.type == "tool_use"]
    return chat.Message(
        role="assistant",
        content=[_part(block) for block in blocks if block.type == "text"],
        reasoning="\n".join(block.thinking or "" for block in blocks).strip() or None,
        tool_calls=calls or None,
    )


def _asked(message: Message, blocks: Sequence[Block]) -> Iterator[chat.Message]:
    """The results of tools are messages of their own in a chat."""
    for is_result, some in groupby(blocks, lambda block: block.type == "tool_result"):
        if is_result:
            yield from map(_result, some)
        else:
            yield chat.Message(role=message.role, content=[_part(block) for block in some])


def _result(block: Block) -> chat.Message:
    content = _content(block.content or "")
    return chat.Message(role="tool", content=content, tool_call_id=block.tool_use_id)


def _call(block: Block) -> chat.ToolCall:
    function = chat.CalledFunction.model_construct(
        name=block.name or "", arguments=block.input or {}
    )
    return chat.ToolCall(id=block.id, function=function)


def _content(shown: str | Sequence[TextBlock]) -> str | list[Part]:
    return shown if isinstance(shown, str) else [_part(block) for block in shown]


def _part(block: TextBlock) -> Part:
    if isinstance(block, Shown) and block.source is not None and block.type == "image":
        image = chat.ImageUrl.model_construct(url=block.source.data)
        return Part(type="image_url", image_url=image)
    return Part(type="text", text=block.text or "")


def _tool(tool: Tool) -> chat.Tool:
    function = chat.Function(
        name=tool.name, description=tool.description, parameters=tool.input_schema
    )
    return chat.Tool(type="function", function=function)


def _effort(body: MessagesBody) -> Effort:
    """No thinking unless it is asked for, as in Anthropic's API."""
    if body.thinking is None or body.thinking.type == "disabled":
        return "none"
    effort = body.output_config.effort if body.output_config is not None else None
    return "xhigh" if effort == "max" else effort or "medium"


def _format(body: MessagesBody) -> chat.ResponseFormat | None:
    form = body.output_config.format if body.output_config is not None else None
    if form is None:
        return None
    return chat.ResponseFormat(type="json_schema", json_schema=chat.JsonSchema(schema=form.schema_))
