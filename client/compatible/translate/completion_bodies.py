"""The bodies of POST /v1/completions and /v1/embeddings: each key with what it means here."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from client.compatible.translate.bodies import NOT_SUPPORTED, Asked, Body, Count, only

_Text: TypeAlias = Annotated[str, Field(min_length=1)]
_TEXTS_ALONE = "is supported here only as text: Ollama takes no tokens"


def _listed(value: object) -> object:
    """A text, as a list of one. Raises PydanticCustomError for tokens."""
    if isinstance(value, list) and any(isinstance(one, (int, list)) for one in value):
        raise PydanticCustomError(NOT_SUPPORTED, _TEXTS_ALONE)
    return [value] if isinstance(value, str) else value


def _one(value: object) -> object:
    """The only one of a list."""
    listed = _listed(value)
    if not isinstance(listed, list) or not listed:
        return value
    if len(listed) > 1:
        words = "is supported here only as one text: ask again for another answer"
        raise PydanticCustomError(NOT_SUPPORTED, words)
    return listed[0]


class CompletionBody(Asked):
    """The body of POST /v1/completions."""

    prompt: Annotated[_Text, BeforeValidator(_one)] = Field(
        description="A text, or a list of one: it is continued as it stands, without the model's "
        "template of a chat."
    )
    suffix: str | None = Field(
        None, description="What comes after the answer, for models that are made to fill in."
    )
    echo: Annotated[bool | None, only(False, why="the prompt is yours already")] = Field(
        None, description="true is refused."
    )
    best_of: Annotated[Count | None, only(1, why="ask again for another answer")] = Field(
        None, description="1."
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="Log probabilities of the tokens, and of so many others at each."
    )
    max_tokens: Count | None = Field(None, description="Tokens of the answer at most; 16.")


_Texts: TypeAlias = Annotated[
    list[_Text], Field(min_length=1, max_length=2048), BeforeValidator(_listed)
]


class EmbeddingBody(Body):
    """The body of POST /v1/embeddings."""

    input: _Texts = Field(description="A text, or a list of them; none is cut.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="`float`, or `base64` of 32-bit numbers, the lowest byte first."
    )
    dimensions: Count | None = Field(
        None, description="The first so many numbers of each vector, made 1 long again."
    )
