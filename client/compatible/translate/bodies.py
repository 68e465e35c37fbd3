"""What the bodies share: how texts come, what is taken and changes nothing, what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from contracts.json_object import JsonObject, load_finite

NOT_SUPPORTED = "unsupported_parameter"


class Taken(BaseModel):
    """An object in a body, of which keys that are not known mean nothing."""

    model_config = ConfigDict(
        strict=True, frozen=True, allow_inf_nan=False, defer_build=True
    )  # built by the first request: most deployments are asked by one of the APIs


class Tagged(Taken):
    """An object in a body whose `type` says what else it has."""

    #: What it must have, by its type.
    needed: ClassVar[Mapping[str, Sequence[str]]]
    type: str

    @model_validator(mode="after")
    def _has_it(self) -> Self:
        for name in self.needed[self.type]:
            if getattr(self, name) is None:
                words = "has no {name}"
                raise PydanticCustomError("missing_required_parameter", words, {"name": name})
        return self


def no(why: str) -> AfterValidator:
    """Return a check that refuses every value but null."""

    def check(value: object) -> object:
        if value is not None:
            raise PydanticCustomError(NOT_SUPPORTED, "is not supported here: {why}", {"why": why})
        return value

    return AfterValidator(check)


def only(*values: object, why: str) -> AfterValidator:
    """Return a check that refuses every value but these and null."""

    def check(value: object) -> object:
        if value is not None and value not in values:
            raise PydanticCustomError(
                NOT_SUPPORTED,
                "is supported here only as {values}: {why}",
                {"values": " or ".join(map(json.dumps, values)), "why": why},
            )
        return value

    return AfterValidator(check)


def _kind(content: object) -> str | None:
    if isinstance(content, str):
        return "text"
    return "parts" if isinstance(content, list) else None


#: Of a union of what is tagged `text` and `parts`.
TEXT_OR_PARTS = Discriminator(
    _kind,
    custom_error_type="invalid_type",
    custom_error_message="must be a text, or a list of parts",
)


_NO_OBJECT = "must be a JSON object, as a text"


def _parsed(text: object) -> object:
    """A JSON object that is given as a text; an empty text is an empty one."""
    if not isinstance(text, str):
        raise PydanticCustomError("invalid_type", _NO_OBJECT)
    try:
        found = load_finite(text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PydanticCustomError("invalid_value", _NO_OBJECT)
    return found


#: The arguments of a call, as the API has them: a JSON object as a text.
Arguments: TypeAlias = Annotated[JsonObject, BeforeValidator(_parsed)]


class StreamOptions(Taken):
    """How an answer is streamed."""

    include_usage: bool | None = None


Count: TypeAlias = Annotated[int, Field(ge=1, le=2**31 - 1)]
Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2)]
Stop: TypeAlias = str | list[str]


class ModelBody(BaseModel):
    """A body: the model that it is for."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True
    )

    model: str | None = Field(None, description="Name of a model; the deployment's by default.")


class Body(ModelBody):
    """A body of OpenAI's: who asks, besides."""

    user: str | None = Field(None, description="Taken; changes nothing.")


class Asked(Body):
    """A body that asks for text: how it is made, and how it comes."""

    stream: bool | None = Field(None, description="Whether it comes as events, piece by piece.")
    stream_options: StreamOptions | None = Field(
        None, description="With `include_usage` the last event but one has the counts of tokens."
    )
    max_tokens: Count | None = Field(None, description="Tokens of the answer at most.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="The model's own by default."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="The model's own by default."
    )
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="The model's own by default. OpenAI has none."
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="The model's own by default. OpenAI has none."
    )
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = Field(
        None, description="With the same seed the same answer comes again, as far as Ollama has it."
    )
    stop: Stop | None = Field(None, description="Texts at which the answer ends.")
    frequency_penalty: Penalty | None = Field(None, description="The model's own by default.")
    presence_penalty: Penalty | None = Field(None, description="The model's own by default.")
    n: Annotated[Count | None, only(1, why="ask again for another answer")] = Field(
        None, description="1."
    )
    logit_bias: Annotated[dict[str, float] | None, only({}, why="Ollama has no such thing")] = (
        Field(None, description="Refused unless empty.")
    )

    def options(self, num_predict: int | None) -> JsonObject:
        """Return Ollama's options, of what was given."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        same = {name: getattr(self, name) for name in _SAME}
        found = {"num_predict": num_predict, "stop": stop, **same}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with the counts of tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


#: Options that Ollama calls as OpenAI does.
_SAME = (
    *("temperature", "top_p", "top_k", "min_p", "seed"),
    *("frequency_penalty", "presence_penalty"),
)
#: Goes with every request: a text that is too long is refused rather than cut, also in the midst.
WHOLE: JsonObject = {"truncate": False, "shift": False}
