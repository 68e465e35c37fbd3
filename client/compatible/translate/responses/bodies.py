"""The body of POST /v1/responses: each key with what it means here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, Tag, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from client.compatible.translate.bodies import (
    TEXT_OR_PARTS,
    Arguments,
    Body,
    Count,
    Tagged,
    Taken,
    no,
    only,
)
from client.compatible.translate.chat_bodies import (
    CANNOT_LIMIT,
    NO_TOOLS,
    TOOL_CHOICE,
    Effort,
    Function,
    ImageData,
    ToolChoice,
)
from contracts.json_object import JsonObject

_NO_OTHERS = "the model reads no others"
_NOT_KEPT = "nothing is kept here: give the whole conversation as input"


class ItemPart(Tagged):
    """A part of an item."""

    needed: ClassVar[Mapping[str, Sequence[str]]] = {
        **{f"{kind}_text": ("text",) for kind in ("input", "output", "reasoning", "summary")},
        "input_image": ("image_url",),
        "refusal": ("refusal",),
    }
    type: Annotated[str, only(*needed, why=_NO_OTHERS)]
    text: str | None = None
    image_url: ImageData | None = None
    refusal: str | None = None


Parts: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[ItemPart], Tag("parts")], TEXT_OR_PARTS
]


class Item(Tagged):
    """An item of the conversation."""

    needed: ClassVar[Mapping[str, Sequence[str]]] = {
        "message": ("role", "content"),
        "function_call": ("call_id", "name", "arguments"),
        "function_call_output": ("call_id", "output"),
        "reasoning": (),
    }
    type: Annotated[str, only(*needed, why=_NO_OTHERS)] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Parts | None = None
    summary: list[ItemPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Arguments | None = None
    output: Parts | None = None


class _OfAType(Taken):
    """What is looked at first: tools of other types have other keys."""

    type: Annotated[str, only("function", why=NO_TOOLS)]


class FunctionTool(Function, _OfAType):
    """A function that the model may call."""

    strict: bool | None = None


class TextFormat(Taken):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: JsonObject | None = Field(None, alias="schema")

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type == "json_schema" and self.schema_ is None:
            raise PydanticCustomError("missing_required_parameter", "has no schema")
        return self


class Text(Taken):
    """How an answer is written."""

    format: TextFormat | None = None
    verbosity: Annotated[str | None, only("medium", why="ask for it in words")] = None


class Reasoning(Taken):
    """How much is thought for an answer."""

    effort: Effort | None = None
    summary: Annotated[str | None, no("what the model thinks comes whole")] = None
    generate_summary: Annotated[str | None, no("what the model thinks comes whole")] = None


class ResponsesBody(Body):
    """The body of POST /v1/responses."""

    input: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Item], Field(min_length=1), Tag("parts")],
        TEXT_OR_PARTS,
    ] = Field(
        description="A text, or the conversation: a list of `message` (with `input_text`, "
        "`input_image` of a data: URL, `output_text`), `function_call`, `function_call_output` and "
        "`reasoning`; others are refused."
    )
    instructions: str | None = Field(None, description="What comes before it, as `system`.")
    stream: bool | None = Field(None, description="Whether it comes as events, piece by piece.")
    stream_options: JsonObject | None = Field(None, description="Taken; changes nothing.")
    max_output_tokens: Count | None = Field(
        None, description="Tokens of the answer at most, what the model thinks among them."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="The model's own by default."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="The model's own by default."
    )
    text: Text | None = Field(
        None, description="`format` of `json_object` or `json_schema` makes the answer be that."
    )
    reasoning: Reasoning | None = Field(
        None, description="`effort` is as `reasoning_effort` of chats; a `summary` is refused."
    )
    tools: list[FunctionTool] | None = Field(
        None, description="Of the type `function`; others are refused."
    )
    tool_choice: ToolChoice | None = Field(None, description=TOOL_CHOICE)
    parallel_tool_calls: Annotated[bool | None, only(True, why=CANNOT_LIMIT)] = Field(
        None, description="true; false is refused."
    )
    store: Annotated[bool | None, only(False, why=_NOT_KEPT)] = Field(
        None, description="false, also by default; true is refused."
    )
    previous_response_id: Annotated[str | None, no(_NOT_KEPT)] = Field(
        None, description="Refused: nothing is kept."
    )
    conversation: Annotated[object, no(_NOT_KEPT)] = Field(
        None, description="Refused: nothing is kept."
    )
    background: Annotated[bool | None, only(False, why="an answer is waited for")] = Field(
        None, description="false; true is refused."
    )
    include: Annotated[list[str] | None, only([], why="there is no more than comes anyway")] = (
        Field(None, description="Refused unless empty.")
    )
    truncation: Annotated[str | None, only("disabled", why="nothing is cut")] = Field(
        None, description="`disabled`; `auto` is refused."
    )
    top_logprobs: Annotated[int | None, only(0, why="chats have them")] = Field(
        None, description="0: log probabilities come with chats."
    )
    max_tool_calls: Annotated[int | None, no(NO_TOOLS)] = Field(None, description="Refused.")
    prompt: Annotated[object, no(_NOT_KEPT)] = Field(None, description="Refused: nothing is kept.")
    context_management: Annotated[object, no("nothing is left out of a conversation")] = Field(
        None, description="Refused."
    )
    metadata: dict[str, str] | None = Field(None, description="Taken; comes back.")
    service_tier: str | None = Field(None, description="Taken; changes nothing.")
    safety_identifier: str | None = Field(None, description="Taken; changes nothing.")
    prompt_cache_key: str | None = Field(None, description="Taken; changes nothing.")
    prompt_cache_retention: str | None = Field(None, description="Taken; changes nothing.")
