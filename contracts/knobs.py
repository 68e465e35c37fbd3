"""The knobs of a load, their bounds and defaults.

Recipe, /benchmark, request.json and command line have them from here: a knob that is added to
`Load` is known to all four, to their schemas and pages, and to the report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from typing_extensions import Self

from contracts.figures import MAIN
from contracts.json_object import JsonObject
from contracts.validation import STRICT, WHOLE, Must, Sentence, few, text_of_bytes, with_more

DEFAULT_PROMPT = "Explain in three sentences how a sailing boat can sail against the wind."
MAX_PROMPT_BYTES = 1_000_000
MAX_PROMPTS = 1_000
# Every record is kept in memory until the end: about 0.5 KB, and 8 bytes a chunk.
MAX_REQUESTS = 1_000_000
#: A client is a socket: beyond it one machine is no longer the right tool.
MAX_CLIENTS = 10_000
MAX_SECONDS = 86_400.0

#: The figures that a good request keeps within limits.
SLO_NAMES = tuple(figure.key for figure in MAIN)


def _slo_name(value: str) -> str:
    if value not in SLO_NAMES:
        raise ValueError(f"must be {', '.join(SLO_NAMES)}")
    return value


SloName = Annotated[str, AfterValidator(_slo_name)]
Prompt = Annotated[
    str,
    PlainValidator(text_of_bytes(MAX_PROMPT_BYTES)),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_PROMPT_BYTES}),
    Must(f"a text of 1 to {MAX_PROMPT_BYTES} bytes"),
]


def _askable(prompts: list[str | JsonObject]) -> list[str | JsonObject]:
    """Prompts and conversations that are some, and not too long together."""
    for number, one in enumerate(prompts, 1):
        if not isinstance(one, str):
            from contracts.conversations import Conversation  # most have none

            try:
                Conversation.read(one)
            except (ValueError, RecursionError) as error:
                why = str(error).replace("{", "{{").replace("}", "}}")
                words = f"number {number} of {{}} is no conversation: {why}"
                raise Sentence(words, "prompts") from error
    if (size := len(json.dumps(prompts))) > MAX_PROMPT_BYTES:
        words = f"{{}} have {size} bytes, but must have at most {MAX_PROMPT_BYTES}, as JSON"
        raise Sentence(words, "prompts")
    return prompts


Prompts = Annotated[
    Annotated[
        list[Prompt | Annotated[JsonObject, Field(min_length=1)]],
        Field(min_length=1, max_length=MAX_PROMPTS),
        few(MAX_PROMPTS),
        AfterValidator(_askable),
    ]
    | None,
    Must(
        f"a list of 1 to {MAX_PROMPTS} texts, or objects with messages and perhaps tools, of at "
        f"most {MAX_PROMPT_BYTES} bytes in all"
    ),
]
NumPredict = Annotated[int, Field(ge=1, le=32_768), WHOLE]
Think = Annotated[
    bool | Literal["low", "medium", "high"] | None, Must("true, false, low, medium or high")
]
Format = Annotated[
    Literal["json"] | Annotated[JsonObject, Field(min_length=1)] | None,
    Must("json, or a JSON Schema that is an object"),
]
#: A time as Go writes it ("10m", "1h30m"), or seconds; less than 0: for ever.
KeepAlive = Annotated[
    int
    | float
    | Annotated[str, Field(pattern=r"^(0|-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$")]
    | None,
    Must("a duration such as 10m, or seconds (less than 0: for ever)"),
]
#: The ways to the engines.
Through = Literal["engines", "door"]
_LIMIT = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS}
Goodput = Annotated[
    Annotated[
        dict[SloName, Annotated[float, Field(gt=0, le=MAX_SECONDS)]],
        Field(min_length=1),
        few(len(SLO_NAMES)),
        WithJsonSchema(
            {
                "type": "object",
                "properties": dict.fromkeys(SLO_NAMES, _LIMIT),
                "additionalProperties": False,
                "minProperties": 1,
            }
        ),
    ]
    | None,
    Must(
        f"an object with {', '.join(SLO_NAMES)} or some of them, each more than 0 and at most "
        f"{MAX_SECONDS:g} seconds"
    ),
]
#: The knobs that go into each request as they are (see LoadSpec.extras).
EXTRAS = ("temperature", "think", "format", "keep_alive")


#: Each says what is asked.
_ASKED = {"prompt", "prompts", "input_tokens"}
#: A field, and values of it.
Valued = tuple[str, Sequence[object]]


def value_words(valued: Valued, name: str) -> str:
    """Return a field under a name, and its values as JSON has them."""
    _, values = valued
    said = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return " ".join((name, " or ".join(said))).rstrip()


def _has(given: JsonObject, valued: Valued) -> bool:
    name, values = valued
    return name in given and (not values or given[name] in values)


class Load(BaseModel):
    """What all ways to ask for a load have in common. None: not asked for."""

    model_config = STRICT
    #: Of each pair at most one is given.
    EXCLUSIVE: ClassVar[Sequence[tuple[str, str]]] = (("input_tokens", "prompt"),)
    #: The same of fields that have some values; without values: that are given.
    EXCLUSIVE_VALUES: ClassVar[Sequence[tuple[Valued, Valued]]] = ()
    #: The first is given only with one of the others.
    REQUIRES: ClassVar[Sequence[tuple[str, Sequence[str]]]] = (("max_concurrency", ("rate",)),)

    rate: float | None = Field(
        None,
        gt=0,
        le=20_000,
        description="Requests per second, whether earlier ones have ended or not (an open loop), "
        "instead of a number of clients.",
    )
    arrivals: Literal["constant", "poisson"] | None = Field(
        None, description="How those arrive (default: poisson)."
    )
    max_concurrency: Annotated[int, Field(ge=1, le=MAX_CLIENTS), WHOLE] | None = Field(
        None,
        description="Requests in flight at most, at a rate (default: no limit).",
    )
    duration_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_SECONDS,
        description="Seconds of sending, instead of a number of requests.",
    )
    prompt: Prompt | None = Field(None, description="What each request asks.")
    input_tokens: Annotated[int, Field(ge=1, le=100_000), WHOLE] | None = Field(
        None,
        description="Built-in prompts of about this length, each different, instead of a prompt.",
    )
    num_predict: NumPredict | None = Field(
        None, description="Output tokens at most (default: the model decides)."
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        description="How freely each token is chosen; 0: always the likeliest (default: the "
        "model's).",
    )
    think: Think = Field(
        None,
        description="Whether the model thinks before it answers, or how much (default: it "
        "decides).",
    )
    format: Format = Field(
        None, description="JSON as the answer, or what a JSON Schema says (default: text)."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE] = Field(
        0, description="Request i has the seed SEED + i (default: 0)."
    )
    warmup: Annotated[int, Field(ge=0, le=1_000), WHOLE] = Field(
        1,
        description="Requests to each replica beforehand, not counted (default: 1).",
    )
    timeout_seconds: float = Field(
        600.0,
        gt=0,
        le=MAX_SECONDS,
        description="Seconds from a request's sending to its end, at most (default: 600).",
    )
    goodput: Goodput = Field(
        None,
        description="Limits that a good request keeps: the share and the rate of good requests "
        "are told.",
    )
    processes: Annotated[int, Field(ge=1, le=64), WHOLE] | None = Field(
        None,
        description="Processes of the load generator (default: by load and cores).",
    )
    through: Through | None = Field(
        None,
        description="What is asked: the engines themselves, or the deployment's door in front of "
        "them, as its users ask (default: engines).",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, data: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """All that is wrong is told: with each field, and with how they go together. Null counts as
        not given."""
        if not isinstance(data, Mapping):
            return validate(data)
        given = {name: value for name, value in data.items() if cls._counts(name, value)}
        problems: list[tuple[str, Sentence, object]] = [("", w, data) for w in cls._wrong(given)]
        try:
            load = validate({**given, **cls.fill(given)})
        except ValidationError as error:
            raise with_more(error, problems) from error
        if not problems and (found := load.too_much()):
            problems = [(*found, given.get(found[0]))]
        if problems:
            raise with_more(None, problems)
        return load

    @classmethod
    def _counts(cls, name: str, value: object) -> bool:
        field = cls.model_fields.get(name)
        return value is not None or field is None or field.is_required()

    @classmethod
    def _wrong(cls, given: JsonObject) -> list[Sentence]:
        """What is wrong with how those that are given go together."""
        wrong = [
            Sentence("{} does not go with {}", *pair)
            for pair in cls.EXCLUSIVE
            if given.keys() >= set(pair)
        ]
        for one, other in cls.EXCLUSIVE_VALUES:
            if _has(given, one) and _has(given, other):
                words = f"{value_words(one, '{}')} does not go with {value_words(other, '{}')}"
                wrong.append(Sentence(words, one[0], other[0]))
        for name, others in cls.REQUIRES:
            if name in given and not given.keys() & set(others):
                words = f"{{}} goes only with {' or '.join('{}' for _ in others)}"
                wrong.append(Sentence(words, name, *others))
        return wrong

    @classmethod
    def fill(cls, given: JsonObject) -> dict[str, object]:
        """Return defaults that depend on what else is given."""
        prompt = {} if given.keys() & _ASKED else {"prompt": DEFAULT_PROMPT}
        arrivals = {"arrivals": "poisson"} if "rate" in given and "arrivals" not in given else {}
        return {**prompt, **arrivals}

    @property
    def open_loop(self) -> bool:
        """Whether requests come at a rate of their own."""
        return self.rate is not None

    def too_much(self) -> tuple[str, Sentence] | None:
        """Return a field, and what is wrong with it: more requests or time than are to be had."""
        if self.rate and self.duration_seconds and self.rate * self.duration_seconds > MAX_REQUESTS:
            asked = self.rate * self.duration_seconds
            words = f"{{}} x {{}} is {asked:g}, but must be at most {MAX_REQUESTS}"
            return "duration_seconds", Sentence(words, "rate", "duration_seconds")
        return None
