"""The body of POST /v1/chat/completions: each key with what it means here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from client.compatible.translate.bodies import (
    TEXT_OR_PARTS,
    Arguments,
    Asked,
    Count,
    Tagged,
    Taken,
    no,
    only,
)
from contracts.json_object import JsonObject

#: Why some is not supported.
NO_TOOLS = "there are no tools of ours"
CANNOT_FORCE = "Ollama cannot make the model call one"
CANNOT_LIMIT = "Ollama cannot hold the model to one call"
IMAGES = ("png", "jpeg", "jpg", "webp")
_HEADS = ("data:;base64,", *(f"data:image/{kind};base64," for kind in IMAGES))


def _image(url: str) -> str:
    """The data of an image, as Ollama takes it."""
    head = next(filter(url.startswith, _HEADS), None)
    if head is None:
        words = f"must be data:image/KIND;base64,… with one of {', '.join(IMAGES)}: nothing is "
        raise PydanticCustomError("invalid_value", f"{words}fetched from elsewhere")
    return url.removeprefix(head)


#: The URL of an image: what is read of it is the data in it.
ImageData: TypeAlias = Annotated[str, AfterValidator(_image)]


class ImageUrl(Taken):
    """An image, in its URL itself."""

    url: ImageData


class Part(Tagged):
    """A part of a message: a text or an image."""

    needed: ClassVar[Mapping[str, Sequence[str]]] = {
        kind: (kind,) for kind in ("text", "image_url", "refusal")
    }
    type: Annotated[str, only("text", "image_url", "refusal", why="the model reads no others")]
    text: str | None = None
    image_url: ImageUrl | None = None
    refusal: str | None = None


Content: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Part], Tag("parts")], TEXT_OR_PARTS
]


class CalledFunction(Taken):
    """What a call of a tool calls."""

    name: str
    arguments: Arguments


class ToolCall(Taken):
    """A call that the model made before."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Taken):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    audio: Annotated[JsonObject | None, no("the model neither hears nor speaks")] = None
    function_call: Annotated[JsonObject | None, no("give tool_calls")] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise PydanticCustomError("missing_required_parameter", "has no content")
        return self


class Function(Taken):
    """A function that the model may call; `parameters` is its JSON Schema."""

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: JsonObject | None = None


class Tool(Taken):
    """A tool that the model may call."""

    type: Annotated[str, only("function", why=NO_TOOLS)]
    function: Function


class JsonSchema(Taken):
    """The JSON Schema of an answer."""

    schema_: JsonObject = Field(alias="schema")


class ResponseFormat(Taken):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("missing_required_parameter", "has no json_schema")
        return self


Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


ToolChoice: TypeAlias = Annotated[str | JsonObject, only("auto", "none", why=CANNOT_FORCE)]
TOOL_CHOICE = "`auto` or `none`; `required` or one tool are refused."


class ChatBody(Asked):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)] = Field(
        description="The conversation: `content` is a text, or a list of parts `text` and "
        "`image_url` (a data: URL). `developer` counts as `system`."
    )
    max_completion_tokens: Count | None = Field(
        None, description="As `max_tokens`, before which it goes."
    )
    response_format: ResponseFormat | None = Field(
        None, description="`json_object` or `json_schema` make the answer be that."
    )
    tools: list[Tool] | None = Field(None, description="Functions that the model may call.")
    tool_choice: ToolChoice | None = Field(None, description=TOOL_CHOICE)
    parallel_tool_calls: Annotated[bool | None, only(True, why=CANNOT_LIMIT)] = Field(
        None, description="true; false is refused."
    )
    reasoning_effort: Effort | None = Field(
        None,
        description="Ollama's `think`: `none` is off, others are on, or of models that have levels "
        "`low`, `medium` or `high`. Refused where the model does not think.",
    )
    logprobs: bool | None = Field(None, description="Whether each token's log probability comes.")
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="That of so many other tokens, too; with `logprobs`."
    )
    modalities: list[Annotated[str, only("text", why="the model writes")]] | None = Field(
        None, description="`text` alone."
    )
    audio: Annotated[JsonObject | None, no("the model writes")] = Field(
        None, description="Refused."
    )
    web_search_options: Annotated[JsonObject | None, no("nothing is looked up")] = Field(
        None, description="Refused."
    )
    verbosity: Annotated[str | None, only("medium", why="ask for it in words")] = Field(
        None, description="`medium` alone."
    )
    functions: Annotated[list[Any] | None, no("give tools")] = Field(None, description="Refused.")
    function_call: Annotated[str | JsonObject | None, no("give tool_choice")] = Field(
        None, description="Refused."
    )
    metadata: dict[str, str] | None = Field(None, description="Taken; changes nothing.")
    store: bool | None = Field(None, description="Taken; nothing is kept.")
    service_tier: str | None = Field(None, description="Taken; changes nothing.")
    safety_identifier: str | None = Field(None, description="Taken; changes nothing.")
    prompt_cache_key: str | None = Field(None, description="Taken; changes nothing.")
    prompt_cache_retention: str | None = Field(None, description="Taken; changes nothing.")
    prediction: JsonObject | None = Field(None, description="Taken; changes nothing.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError(
                "invalid_value", "{param} goes only with logprobs", {"param": "top_logprobs"}
            )
        return self
