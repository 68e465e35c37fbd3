"""The body of POST /v1/messages: each key with what it means here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, Tag, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from client.compatible.translate.bodies import (
    TEXT_OR_PARTS,
    Count,
    ModelBody,
    Tagged,
    Taken,
    no,
    only,
)
from client.compatible.translate.chat_bodies import CANNOT_FORCE, CANNOT_LIMIT, IMAGES, NO_TOOLS
from contracts.json_object import JsonObject

_NO_OTHERS = "the model reads no others"


class Source(Taken):
    """The data of an image."""

    type: Annotated[str, only("base64", why="nothing is fetched from elsewhere")]
    media_type: Annotated[str, only(*(f"image/{kind}" for kind in IMAGES), why=_NO_OTHERS)]
    data: str


class TextBlock(Tagged):
    """A text."""

    needed: ClassVar[Mapping[str, Sequence[str]]] = {"text": ("text",)}
    type: Annotated[str, only("text", why=_NO_OTHERS)]
    text: str | None = None


class Shown(TextBlock):
    """A text or an image."""

    needed: ClassVar[Mapping[str, Sequence[str]]] = {
        **TextBlock.needed,
        "image": ("source",),
    }
    type: Annotated[str, only("text", "image", why=_NO_OTHERS)]
    source: Source | None = None


_Texts: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextBlock], Tag("parts")], TEXT_OR_PARTS
]
_Shown: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Shown], Tag("parts")], TEXT_OR_PARTS
]


class Block(Shown):
    """A block of a message."""

    needed: ClassVar[Mapping[str, Sequence[str]]] = {
        **Shown.needed,
        "tool_use": ("id", "name", "input"),
        "tool_result": ("tool_use_id",),
        "thinking": ("thinking",),
    }
    type: Annotated[
        str, only("text", "image", "tool_use", "tool_result", "thinking", why=_NO_OTHERS)
    ]
    id: str | None = None
    name: str | None = None
    input: JsonObject | None = None
    tool_use_id: str | None = None
    content: _Shown | None = None
    thinking: str | None = None


_Blocks: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Block], Field(min_length=1), Tag("parts")],
    TEXT_OR_PARTS,
]
#: The blocks of a message, by who says it.
_BY_ROLE = {
    "system": ("text",),
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "thinking", "tool_use"),
}


class Message(Taken):
    """A message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: _Blocks

    @model_validator(mode="after")
    def _says_what_it_can(self) -> Self:
        for block in self.content if isinstance(self.content, list) else ():
            if block.type not in _BY_ROLE[self.role]:
                words = {"role": self.role, "type": block.type}
                raise PydanticCustomError("invalid_value", "of {role} has a block {type}", words)
        return self


class Tool(Taken):
    """A tool that the model may call; `input_schema` is the JSON Schema of its input."""

    type: Annotated[str | None, only("custom", why=NO_TOOLS)] = None
    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    input_schema: JsonObject


class ToolChoice(Taken):
    """Whether tools are called."""

    type: Annotated[str, only("auto", "none", why=CANNOT_FORCE)]
    disable_parallel_tool_use: Annotated[bool | None, only(False, why=CANNOT_LIMIT)] = None


class Thinking(Taken):
    """Whether the model thinks."""

    type: Annotated[
        str, only("enabled", "adaptive", "disabled", why="the model thinks, or it does not")
    ]
    budget_tokens: Count | None = None


class OutputFormat(Taken):
    """The JSON Schema of an answer."""

    type: Annotated[str, only("json_schema", why="there is no other form")]
    schema_: JsonObject = Field(alias="schema")


class OutputConfig(Taken):
    """The form of an answer, and how much is thought for it."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class MessagesBody(ModelBody):
    """The body of POST /v1/messages."""

    max_tokens: Count = Field(
        description="Tokens of the answer at most, what the model thinks among them."
    )
    messages: Annotated[list[Message], Field(min_length=1)] = Field(
        description="The conversation: `content` is a text, or a list of blocks `text`, `image` "
        "(of `base64`), `tool_use`, `tool_result` and `thinking`; others are refused."
    )
    system: _Texts | None = Field(None, description="A text, or a list of blocks `text`.")
    stream: bool | None = Field(None, description="Whether it comes as events, piece by piece.")
    temperature: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="The model's own by default."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="The model's own by default."
    )
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="The model's own by default."
    )
    stop_sequences: list[str] | None = Field(
        None,
        description="Texts at which the answer ends. `stop_reason` is `end_turn` there, too: "
        "Ollama does not tell them apart.",
    )
    tools: list[Tool] | None = Field(
        None, description="Tools of your own that the model may call; Anthropic's are refused."
    )
    tool_choice: ToolChoice | None = Field(
        None,
        description="`auto` or `none`; `any`, `tool` and `disable_parallel_tool_use` are refused.",
    )
    thinking: Thinking | None = Field(
        None,
        description="`enabled` or `adaptive`, refused where the model does not think; "
        "`disabled` by default. `budget_tokens` is taken; `max_tokens` is the only limit.",
    )
    output_config: OutputConfig | None = Field(
        None,
        description="`format` of the type `json_schema` makes the answer be that; `effort` counts "
        "for models whose thinking has levels.",
    )
    metadata: JsonObject | None = Field(None, description="Taken; changes nothing.")
    service_tier: str | None = Field(None, description="Taken; changes nothing.")
    cache_control: JsonObject | None = Field(
        None, description="Taken, as in blocks and tools; changes nothing."
    )
    speed: Annotated[str | None, only("standard", why="there is one")] = Field(
        None, description="`standard` alone."
    )
    container: Annotated[object, no("nothing is run here")] = Field(None, description="Refused.")
    mcp_servers: Annotated[object, no(NO_TOOLS)] = Field(None, description="Refused.")
    context_management: Annotated[object, no("nothing is left out of a conversation")] = Field(
        None, description="Refused."
    )
