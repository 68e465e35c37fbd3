"""The answers that go out: what each of their keys means."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import Self

from client.api.building import built
from contracts.json_object import JsonObject

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"


def _as_it_is(value: object) -> object:
    return value


def one_of(*words: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(words)})


#: Also one with half of a surrogate pair: it may be in Ollama's own words.
Text = Annotated[str, PlainValidator(_as_it_is), WithJsonSchema({"type": "string"})]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
#: Of a key that is absent if there is nothing to say: None is not sent.
Absent = SkipJsonSchema[None]


class Answered(BaseModel):
    """An object that goes out; keys that were not given are absent from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    def __new__(cls, *_: object, **__: object) -> Self:
        """What pydantic makes of a class is made when there is the first of it."""
        return super().__new__(built(cls))

    def as_json(self) -> JsonObject:
        """The object as JSON has it."""
        return self.model_dump(exclude_unset=True)


class Open(Answered):
    """An object to which more keys may come."""

    model_config = ConfigDict(extra="allow")


# --- errors ---


class ErrorWords(Answered):
    """What went wrong, for programs and for people."""

    type: Text = Field(description="The kind, for programs.")
    message: Text = Field(description="A sentence for people, which names all that is wrong.")


class Error(Answered):
    """The one shape of every error."""

    error: ErrorWords = Field(description="What went wrong.")


# --- GET /health ---


class Placement(Open):
    """Where a model is in memory."""

    size: Count = Field(description="Its bytes.")
    size_vram: Count = Field(description="Those of them that are on GPUs.")
    where: Text = Field(description="`cpu`, `gpu` or `gpu+cpu`.")


class Replica(Open):
    """One Ollama of the deployment."""

    address: Text = Field(description="`host:port`.")
    ok: bool = Field(
        description="Whether it would answer a query: it answers, has the deployment's model, and "
        "did not fail when it was last asked to use it. If that is more than 5 seconds ago, it is "
        "idle, and no benchmark runs, one token is asked for."
    )
    reason: Text | None = Field(
        description="Why it would not; or, though it would, what else is to be said: that the "
        "model is not in memory, was replaced by another of its name, or lets a token wait."
    )
    version: Text | None = Field(description="Of Ollama.")
    model: Text | None = Field(description="The name under which it has the deployment's model.")
    digest: Text | None = Field(description="Of that model, as Ollama has it.")
    available: bool | None = Field(description="Whether it has that model.")
    loaded: bool | None = Field(description="Whether that model is in memory.")
    placement: Placement | None = Field(description="Where that sits.")
    outstanding: Count = Field(description="Requests through the door that it works on now.")


class Collection(Open):
    """The documents that were ingested."""

    collection: Text = Field(description="Its name.")
    embedding_model: Text = Field(description="The model that its vectors are made with.")
    qdrant: Text = Field(description="`embedded`, or the server's URL, once it is known.")
    ok: bool = Field(description="Whether a question could be asked of it.")
    reason: Text | None = Field(description="Why not.")
    points: Count | None = Field(description="How many are in it.")


_STATUS = (
    "`healthy`: every replica would answer a query; `degraded`: at least one would, and there is "
    "something to say of it or of another (its `reason`), or of `retrieval`; `unhealthy`: none "
    "would."
)


class HandedOver(Open):
    """How jobs that follow one another hand over (docs/handover.md)."""

    phase: Text = Field(description="As in `handover.json`.")
    ends: Count = Field(description="When the job that says so ends, in seconds since 1970.")
    dark_s: Count | None = Field(description="For how many seconds nobody will answer then, if so.")
    message: Text | None = Field(description="That in a sentence, or why no next job is there.")


class Health(Open):
    """Whether a query would be answered."""

    status: Annotated[Text, one_of(HEALTHY, DEGRADED)] = Field(description=_STATUS)
    ollama_host: Text = Field(description="Host of the first replica.")
    ollama: list[Replica] = Field(min_length=1, description="Every replica.")
    model: Text | None = Field(description="The deployment's model.")
    deployment: Text | None = Field(description="Id of the deployment.")
    job_id: Text | None = Field(description="Id of this service's job.")
    ollama_job: Text = Field(description="Id of Ollama's job.")
    retrieval: Collection | Absent = Field(None, description="The collection, if there is one.")
    handover: HandedOver | Absent = Field(
        None, description="How it goes on when its jobs end, if others follow them."
    )


class Unhealthy(Health):
    """No query would be answered."""

    status: Annotated[Text, one_of(UNHEALTHY)] = Field(description=_STATUS)
    error: ErrorWords = Field(description="Why the replicas would not answer.")


class Sleeping(Open):
    """There is no engine now; a query would be answered, once it has begun one (docs/idle.md)."""

    status: Annotated[Text, one_of("sleeping", "waking")] = Field(
        description="`sleeping`: the next request of a model has an engine submitted; `waking`: "
        "that is on its way."
    )
    reason: Text = Field(description="What is waited for, or why the last engine failed.")
    model: Text | None = Field(description="The deployment's model.")
    deployment: Text | None = Field(description="Id of the deployment.")
    job_id: Text | None = Field(description="Id of this service's job.")
    ollama_job: Text | None = Field(description="Id of the engine's job, if it is on its way.")


class GivenHealth(Open):
    """Whether a server that the deployment measures, and has not started, would answer."""

    status: Annotated[Text, one_of(HEALTHY, UNHEALTHY)] = Field(description="Whether it would.")
    server: Text = Field(description="Its address.")
    api: Text = Field(description="What it speaks.")
    version: Text | None = Field(description="Its own version.")
    model: Text | None = Field(description="The model that is measured.")
    deployment: Text | None = Field(description="Id of the deployment.")
    job_id: Text | None = Field(description="Id of this service's job.")
    error: ErrorWords | Absent = Field(None, description="Why it would not.")


# --- GET /slots ---


class Slots(Open):
    """What the engines work on, and for whom."""

    total: Count = Field(
        description="Requests that the replicas which answer now work on at once, in all; or as "
        "many as who asks may have in flight, if those are fewer."
    )
    share: float = Field(
        ge=0,
        description="Of these, one batch's: users with batches have equal parts, and so have the "
        "batches of each user. A batch is whoever asks here with a header `orch-batch` of its own, "
        "for five seconds.",
    )
    interactive: Count = Field(
        description="Requests for engines that are in flight or wait their turn, but those of "
        "batches."
    )
    batch: Count = Field(description="The same of batches: sent with `orch-priority: batch`.")


# --- POST /query, /search and /points ---


class SearchTimings(Open):
    """Seconds of the steps of a search."""

    embed: Seconds = Field(description="To embed the question.")
    search: Seconds = Field(description="To find what is nearest to it.")


class Timings(SearchTimings):
    """Seconds of the steps of a query with retrieval; null if Ollama does not say."""

    prefill: Seconds | None = Field(description="To read the prompt, by Ollama's own count.")
    decode: Seconds | None = Field(description="To write the answer, by Ollama's own count.")


class Hit(Open):
    """A chunk that was found."""

    number: Annotated[int, Field(ge=1)] = Field(
        description="Its number in the prompt, from 1; the best is first."
    )
    score: float = Field(description="Cosine similarity to the question.")
    source: Text = Field(description="File that it is from.")
    position: Count = Field(description="Its place among that file's chunks, from 0.")
    heading: Text = Field(description="Headings that it stands under.")
    metadata: JsonObject = Field(description="What a JSON line brought beside its text.")
    text: Text = Field(description="Of a source of a query only the beginning.")


class Answer(Open):
    """Ollama's own answer, with this."""

    request_time: Seconds = Field(
        description="Seconds from the query's arrival here to the end of Ollama's answer."
    )
    replica: Text = Field(description="Address of the replica that answered.")
    retried: bool = Field(
        description="Whether it was sent before, to another replica as a rule, in vain."
    )
    sources: list[Hit] | Absent = Field(
        None, description="If there was retrieval: what the model was given, by number."
    )
    timings: Timings | Absent = Field(None, description="Likewise: seconds of each step.")
    truncated: bool | Absent = Field(
        None,
        description="True if the prompt was not read whole, though Ollama was told to refuse "
        "it: old versions cut it all the same. With stream it stands in the last line.",
    )


class SearchAnswer(Open):
    """What a search finds."""

    hits: list[Hit] = Field(description="The best first.")
    timings: SearchTimings = Field(description="Seconds of each step.")


class RefusedChunk(Answered):
    """A chunk that was not stored."""

    position: Count = Field(description="Its place in the document.")
    reason: Text = Field(description="In Ollama's words.")


class PointsAnswer(Open):
    """What became of the chunks of a document."""

    points: Count = Field(description="In the collection now.")
    added: Count = Field(description="That were new.")
    present: Count = Field(description="That were there.")
    removed: Count = Field(description="Of an earlier version of the source.")
    truncated: Count = Field(
        description="Chunks that were longer than the embedding model reads, and were cut."
    )
    complete: bool = Field(description="Whether all chunks of the source are there.")
    refused: list[RefusedChunk] = Field(
        description="Chunks that the embedding model does not embed; all others are stored."
    )
