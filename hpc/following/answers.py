"""What the client service answers, as far as it is read here.

Services of earlier versions lack some of it, and say null of what they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from contracts.errors import ServiceError
from contracts.json_object import JsonObject
from contracts.summary import Distribution, Throughput
from contracts.validation import first_problem


class _Answer(BaseModel):
    """A JSON object; null counts as what is not there."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, found: object) -> object:
        if not isinstance(found, Mapping):
            return found
        return {key: value for key, value in found.items() if value is not None}


class _Recorded(_Answer):
    """One that goes into the deployment's record as it came, but for what is long."""

    _found: JsonObject = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, found: object, handler: ModelWrapValidatorHandler[_Recorded]) -> _Recorded:
        made = handler(found)
        made._found = found if isinstance(found, Mapping) else {}
        return made

    def recorded(self, **more: str) -> JsonObject:
        """For the record, with `more` at the end or in place of what it says itself."""
        kept = {k: v for k, v in self._found.items() if k not in ("results", "provenance")}
        return {**kept, **more}


class ProgressSoFar(_Answer):
    """How far a benchmark is; seconds, and what is per second."""

    phase: str = "start"
    planned: int | None = None
    done: int = 0
    failed: int = 0
    in_flight: int | None = None
    elapsed_seconds: float | None = None
    requests_per_second: float | None = None
    ttft_p50: float | None = None
    output_tokens_per_second: float | None = None


class RunState(_Answer):
    """Of a benchmark that was started."""

    state: str = ""
    progress: ProgressSoFar = ProgressSoFar()


class LoadAsked(_Answer):
    """What a benchmark was asked for."""

    rate: float | None = None


class Verdict(_Answer):
    """Whether the figures may be used: why not, and notes for the reader."""

    valid: bool = False
    reasons: Sequence[str] = ()
    notes: Sequence[str] = ()


class Result(_Recorded):
    """A benchmark that has ended: counts, seconds, and how they are spread."""

    total_queries: int | None = None
    successful: int | None = None
    n_clients: int | None = None
    total_time: float | None = None
    load: LoadAsked = LoadAsked()
    latency_seconds: Mapping[str, Distribution | None] = {}
    server_seconds: Mapping[str, Distribution | None] = {}
    throughput: Throughput = Throughput()
    validity: Verdict = Verdict()


class RequestsSent(_Answer):
    """The counts of a run that was cut short; `errors` by class."""

    planned: int
    succeeded: int
    failed: int
    errors: Mapping[str, int] = {}


class PartialSummary(_Recorded):
    """What summary.json says of such a run."""

    requests: RequestsSent | None = None


class Source(_Answer):
    """A chunk of a document that an answer was given from."""

    number: int
    score: float
    source: str
    heading: str = ""


class Answered(_Answer):
    """The answer to a question; `timings`: seconds by step."""

    response: str = ""
    request_time: float = 0.0
    sources: Sequence[Source] = ()
    timings: Mapping[str, float | None] = {}


class Collection(_Answer):
    """The documents that were ingested."""

    points: int = 0


class Health(_Answer):
    """Of the service; `retrieval` is None when there is none."""

    retrieval: Collection | None = None


_Kind = TypeVar("_Kind", bound=BaseModel)


def read(kind: type[_Kind], found: object) -> _Kind:
    """`found`, parsed JSON, as one of the above. Raises ServiceError when it is none."""
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        why = first_problem(error)
        raise ServiceError(f"the client service's answer is not understood ({why}).") from error
