"""Conversations that a model is asked to go on with: messages, and tools that it may call, as
OpenAI's API has them ("Chat completions")."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from contracts.json_object import JsonObject, load_finite
from contracts.validation import first_problem

MAX_MESSAGES, MAX_TOOLS = 1_000, 128


def _object(text: str) -> str:
    if not isinstance(load_finite(text), dict):
        raise ValueError("must be a JSON object, written as a text")
    return text


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class CalledFunction(_Part):
    """What a call names."""

    name: str
    arguments: Annotated[str, AfterValidator(_object)]


class ToolCall(_Part):
    """A call that the model made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(_Part):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _is_of_its_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls are the assistant's")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise ValueError("tool_call_id goes with the role tool, and that with it")
        if self.content is None and not self.tool_calls:
            raise ValueError("has neither content nor tool_calls")
        return self


class Function(_Part):
    """What can be called; `parameters`: a JSON Schema."""

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: JsonObject | None = None


class Tool(_Part):
    """A function that the model may call."""

    type: Literal["function"]
    function: Function


class Conversation(BaseModel):
    """Messages up to the turn that the model is to answer; other keys mean nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None

    @classmethod
    def read(cls, value: object) -> Conversation:
        """Return a conversation by parsed JSON. Raises ValueError with the first thing wrong."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    @classmethod
    def of_prompt(cls, prompt: str) -> Conversation:
        """Return a conversation of one turn."""
        return cls(messages=[Message(role="user", content=prompt)])

    def encoded(self, messages: Sequence[object] | None = None) -> bytes:
        """Return it as a request has it: the text that follows the key `messages`; these messages
        may stand for its own."""
        ours = self.model_dump(exclude_none=True)
        tools = b', "tools": ' + json.dumps(ours["tools"]).encode() if self.tools else b""
        return json.dumps(messages or ours["messages"]).encode() + tools

    @property
    def texts(self) -> Iterator[str]:
        """What its turns say."""
        return (message.content for message in self.messages if message.content is not None)
