"""The bodies that come in: what each of their keys must be, and what it means."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, model_validator
from typing_extensions import Self

from contracts.json_object import JsonObject
from contracts.knobs import Format, KeepAlive, Prompt, Think
from contracts.load import RUN_ID, LoadPerClient, LoadSpec
from contracts.validation import STRICT, WHOLE, Must, Sentence, few
from retrieval.bounds import (
    HIGHEST,
    LOWEST,
    MAX_CHUNKS,
    MAX_COUNT,
    MAX_KEYS,
    MAX_METADATA,
    MAX_SOURCE,
    MAX_TEXT,
)
from retrieval.settings import MAX_TOP_K

ModelName = Annotated[
    str,
    Field(pattern=r"^[!-~]{1,256}$"),
    Must("a name of 1 to 256 letters, digits and signs of ASCII"),
]
RunId = Annotated[
    str,
    Field(pattern=f"^{RUN_ID.pattern}$"),
    Must("1 to 100 of A-Z a-z 0-9 . _ - and not begin with a dot"),
]
_MODEL = "Name of a model; the deployment's if none is given."
_ABOUT = {name: field.description for name, field in LoadSpec.model_fields.items()}

TopK = Annotated[int, Field(ge=1, le=MAX_TOP_K), WHOLE]
_MOST_WANTED, _MOST_LISTED = 16, 100
_Word = Annotated[str, Field(max_length=1_000)]
_Number = Annotated[int, Field(ge=LOWEST, le=HIGHEST), WHOLE]
_SOME = Field(min_length=1, max_length=_MOST_LISTED)
Filter = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")],
        _Word
        | _Number
        | bool
        | Annotated[list[_Word], _SOME, few(_MOST_LISTED)]
        | Annotated[list[_Number], _SOME, few(_MOST_LISTED)],
    ],
    Field(max_length=_MOST_WANTED, json_schema_extra={"additionalProperties": False}),
    few(_MOST_WANTED),
    Must(
        f"an object of values, or lists of them, by at most {_MOST_WANTED} keys of letters, "
        "digits, _ and -"
    ),
]


class Body(BaseModel):
    """A body, or an object in one."""

    model_config = STRICT

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, data: object) -> object:
        """Very many keys are refused at once: pydantic would name each that it does not know."""
        if isinstance(data, dict) and len(data) > len(cls.model_fields):
            raise ValueError("has keys that are not known")
        return data


class Login(Body):
    """Who asks for a token of his own."""

    credential: Annotated[
        str,
        Field(pattern=r"^MUNGE:[A-Za-z0-9+/=]{1,2000}:$"),
        Must("a credential as munge prints it (MUNGE:...:)"),
    ] = Field(
        description="By `munge --restrict-uid=OWNER`, of the text `orch login DEPLOYMENT "
        "HOST:PORT`: both as GET /login says, and the address that is asked."
    )


class Nearest(Body):
    """Which chunks of the documents: how many of those nearest to a text, and of which."""

    top_k: TopK = Field(0, description="Hits at most (default: the recipe's).")  # 0: that
    filter: Filter = Field(
        default_factory=dict,
        description="Only chunks whose metadata (or source, heading, position) have these values; "
        "of a list, one.",
    )


class Query(Body):
    """A question to the model."""

    prompt: Prompt = Field(description="What the model is asked.")
    model: ModelName | None = Field(None, description=_MODEL)
    system: Prompt | None = Field(None, description="A system prompt.")
    options: dict[Any, Any] | None = Field(
        None, description="Ollama's options, such as num_predict, temperature or seed."
    )
    think: Think = Field(None, description=_ABOUT["think"])
    format: Format = Field(None, description=_ABOUT["format"])
    keep_alive: KeepAlive = Field(None, description=_ABOUT["keep_alive"])
    stream: bool = Field(
        False, description="Pass Ollama's chunks on as they come (default: false)."
    )
    retrieval: Annotated[
        bool | Nearest,
        Must(f"true, false, or an object with top_k (1 to {MAX_TOP_K}), filter, or both"),
    ] = Field(
        False, description="Answer from the ingested documents: true, or how (default: false)."
    )


class Search(Nearest):
    """A question to the store of the documents."""

    query: Prompt = Field(description="What is looked for.")


def _storable(metadata: JsonObject) -> JsonObject:
    """Raises ValueError for what is too long, or has half of a surrogate pair."""
    json.dumps(metadata, ensure_ascii=False).encode()
    if len(json.dumps(metadata)) > MAX_METADATA:
        raise ValueError(f"must be at most {MAX_METADATA} characters long")
    return metadata


class Chunk(Body):
    """A piece of a document."""

    position: Annotated[int, Field(ge=0, le=MAX_COUNT), WHOLE] = Field(
        description="Its place in the document, from 0."
    )
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)] = Field(
        description="What it says."
    )
    heading: Annotated[str, Field(max_length=MAX_TEXT)] = Field(
        "", description="Headings that it stands under."
    )
    metadata: Annotated[
        JsonObject, Field(max_length=MAX_KEYS), AfterValidator(_storable), few(MAX_KEYS)
    ] = Field(default_factory=dict, description="What a search may ask for by its keys.")


class Points(Body):
    """Chunks of a document that are to be stored."""

    source: Annotated[
        str,
        Field(min_length=1, max_length=MAX_SOURCE),
        Must(f"a text of 1 to {MAX_SOURCE} characters"),
    ] = Field(description="The document's name: the absolute path of its file.")
    version: Annotated[
        str, Field(min_length=1, max_length=256), Must("a text of 1 to 256 characters")
    ] = Field(description="A digest of its content and of how it is cut.")
    count: Annotated[int, Field(ge=1, le=MAX_COUNT), WHOLE] = Field(
        description="Chunks that this version has in all."
    )
    chunks: Annotated[
        list[Chunk],
        Field(max_length=MAX_CHUNKS),
        few(MAX_CHUNKS),
        Must(f"at most {MAX_CHUNKS} objects with position, text and perhaps heading and metadata"),
    ] = Field(
        default_factory=list,
        description="Chunks of it; those that are there already are left as they are.",
    )

    @model_validator(mode="after")
    def _are_announced(self) -> Self:
        for chunk in self.chunks:
            if chunk.position >= self.count:
                words = f"a chunk's position is {chunk.position}, but count is {self.count}"
                raise Sentence(words)
        return self


class BenchmarkRequest(LoadPerClient):
    """A load for the deployment's model, and how its result is waited for and found again."""

    EXCLUSIVE_VALUES = (
        *LoadPerClient.EXCLUSIVE_VALUES,
        (("keep_alive", ()), ("api", ("openai",))),
        (("through", ()), ("retrieval", (True,))),
        (("api", ()), ("retrieval", (True,))),
    )

    model: ModelName | None = Field(None, description=_MODEL)
    retrieval: bool = Field(
        False,
        description="Measure /query with retrieval, and its steps, instead of Ollama (default: "
        "false).",
    )
    keep_alive: KeepAlive = Field(None, description=_ABOUT["keep_alive"])
    wait: bool = Field(
        True, description="Answer at the end, with the result; else at once (default: true)."
    )
    id: RunId | None = Field(
        None,
        description="Name of the run: asked for once more, it is joined, or its result returned.",
    )

    def too_much(self) -> tuple[str, Sentence] | None:
        """As of any load; and conversations for /query, which has no turns."""
        if self.retrieval and not all(isinstance(one, str) for one in self.prompts or ()):
            return "prompts", Sentence("messages in {} do not go with {}", "prompts", "retrieval")
        return super().too_much()
