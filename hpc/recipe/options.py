"""Options of the engine in a recipe, as the field names them. Each engine says in its own module
which of them it knows (engines/servers/options.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from contracts.validation import WHOLE, Sentence, with_more
from engines.servers.deployable import DEPLOYED
from hpc.recipe.sections import Section

#: None of these is the default. Each is a setting of the model in memory.
_LOADING = ("flash_attention", "kv_cache_type", "num_batch", "num_gpu", "use_mmap")
#: What an engine is told, and a server that nobody starts here is not.
OPTIONS = (*_LOADING, "sampling", "env")
QUANTISED = ("q8_0", "q4_0")
MAX_BATCH = 65_536
_SEED = 2**31 - 1


class Sampling(Section):
    """How tokens are chosen if a request does not say it; what it says goes before this."""

    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        description="How freely each token is chosen; 0: always the likeliest.",
    )
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = Field(
        None, description="Only the so many likeliest tokens; 0: no limit."
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="Only the likeliest tokens that have this share together."
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="Only tokens of at least this share of the likeliest one's."
    )
    typical_p: float | None = Field(
        None, ge=0, le=1, description="Only the most typical tokens that have this share together."
    )
    repeat_last_n: Annotated[int, Field(ge=-1, le=1_000_000), WHOLE] | None = Field(
        None,
        description="Tokens in which repetitions are looked for; 0: none, -1: the whole context.",
    )
    repeat_penalty: float | None = Field(
        None, ge=0, le=10, description="How much a repetition is made unlikely; 1: not at all."
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="The same, by whether a token was there before; 0: not."
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="The same, by how often it was there; 0: not."
    )
    seed: Annotated[int, Field(ge=0, le=_SEED), WHOLE] | None = Field(
        None, description="Makes the choice the same each time. The benchmark sends its own."
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Texts that end an answer, in place of the model's own.",
    )


class _Variables(Section):
    """Variables of the engine's environment, of those that it knows."""

    @model_validator(mode="wrap")
    @classmethod
    def _no_other_way(cls, data: object, validate: ModelWrapValidatorHandler[Any]) -> Any:
        """What something else sets is set by that alone."""
        if not isinstance(data, Mapping):
            return validate(data)
        elsewhere: dict[str, str] = {}
        for one in DEPLOYED.values():
            elsewhere |= one.options.set_elsewhere
        wrong = [
            (name, Sentence(f"is set by {elsewhere[name]}"), value)
            for name, value in data.items()
            if name in elsewhere
        ]
        try:
            made = validate({name: value for name, value in data.items() if name not in elsewhere})
        except ValidationError as error:
            raise with_more(error, wrong) from error
        if wrong:
            raise with_more(None, wrong)
        return made


def _field_of(variable: Any) -> Any:
    return (variable.kind | None, Field(None, description=variable.meaning))


if TYPE_CHECKING:
    Env = _Variables
else:
    Env = create_model(
        "Env",
        __base__=_Variables,
        __doc__=_Variables.__doc__,
        **{
            name: _field_of(variable)
            for one in DEPLOYED.values()
            for name, variable in one.options.variables.items()
        },
    )


class EngineOptions(Section):
    """What the engine is told beyond its model; what is not given is left to it."""

    flash_attention: bool | None = Field(
        None,
        description="Whether attention is computed by flash attention, which takes less memory for "
        "long contexts. Default: the engine decides; `true` if kv_cache_type asks for it.",
    )
    kv_cache_type: Literal["f16", "q8_0", "q4_0", "fp8"] | None = Field(
        None,
        description="How the KV cache is kept: `q8_0` takes half of the memory of `f16`, `q4_0` a "
        "quarter, at some loss of precision; they need flash attention. vLLM has `f16` and `fp8`.",
    )
    num_batch: Annotated[int, Field(ge=1, le=MAX_BATCH), WHOLE] | None = Field(
        None,
        description="Tokens of a prompt that are computed at once, at most context_length. "
        "Default: the engine's (Ollama: 512).",
    )
    num_gpu: Annotated[int, Field(ge=0, le=10_000), WHOLE] | None = Field(
        None,
        description="Layers of the model on the GPUs, the others on the CPU; 0: none. Default: as "
        "many as fit.",
    )
    use_mmap: bool | None = Field(
        None,
        description="Whether the model's file is mapped into memory rather than read. Default: the "
        "engine decides.",
    )
    sampling: Sampling | None = Field(
        None,
        description="How tokens are chosen if a request does not say it. Default: as the model "
        "says, else the engine.",
    )
    env: Env | None = Field(
        None,
        description="Variables of the engine's environment, of those below. Default: none.",
    )

    @field_validator("kv_cache_type")
    @classmethod
    def _with_flash_attention(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value in QUANTISED and info.data.get("flash_attention") is False:
            raise ValueError(
                "a quantised KV cache needs flash attention, but job.service.flash_attention is "
                "false: leave that out, or take f16"
            )
        return value

    @field_validator("num_batch")
    @classmethod
    def _within_the_context(cls, value: int | None, info: ValidationInfo) -> int | None:
        context = info.data.get("context_length")
        if value is not None and context is not None and value > context:
            raise ValueError(f"must be at most job.service.context_length ({context})")
        return value

    @field_validator(*OPTIONS)
    @classmethod
    def _known_to_the_engine(cls, value: Any, info: ValidationInfo) -> Any:
        """The engine stands before these, unless it is itself wrong."""
        engine, name = DEPLOYED.get(info.data.get("engine", "")), str(info.field_name)
        if value is None or engine is None:
            return value
        if isinstance(value, Section):
            unknown = list(engine.options.unknown(name, value.model_dump(exclude_none=True)))
        else:
            unknown = [] if name in engine.options.keys else [name]
        if unknown:
            raise ValueError(f"{engine.title} does not know {', '.join(unknown)}: leave it out")
        if refused := engine.options.refused(name, value):
            raise ValueError(f"{engine.title} does not take {refused}: take that, or leave it out")
        return value

    @property
    def with_flash_attention(self) -> bool | None:
        """Whether it is turned on or off; None: the engine decides."""
        if self.flash_attention is None and self.kv_cache_type in QUANTISED:
            return True
        return self.flash_attention

    @property
    def variables(self) -> dict[str, object]:
        """Those of the engine's environment that are given."""
        return {} if self.env is None else self.env.model_dump(exclude_none=True)

    @property
    def defaults(self) -> dict[str, object]:
        """How tokens are chosen, as far as it is given."""
        return {} if self.sampling is None else self.sampling.model_dump(exclude_none=True)

    def told(self) -> Iterator[tuple[str, object, str]]:
        """Yield what the engine is told, for the plan: its path below job.service, its value and
        where that is from."""
        if self.flash_attention is None and self.with_flash_attention:
            yield "flash_attention", True, f"kv_cache_type {self.kv_cache_type} needs it"
        for name in _LOADING:
            value = getattr(self, name)
            if value is not None:
                yield name, value, "recipe"
        for section, found in (("sampling", self.defaults), ("env", self.variables)):
            for name, value in found.items():
                yield f"{section}.{name}", value, "recipe"
