"""What is stored of a chunk, what is found of it, and the prompt that a question becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from contracts.json_object import JsonObject
from engines.json_values import count_of, part_of, text_of
from retrieval.chunks import with_heading

INSTRUCTION = (
    "Answer the question from the numbered sources below. After each statement give the number of "
    "its source in brackets, such as [1]. If the sources do not answer the question, say so."
)


#: What a point's keys are to be: values, or lists of them, by key.
Filter = Mapping[str, str | int | bool | list[str] | list[int]]


@dataclass(frozen=True)
class Point:
    """A chunk as it is stored: its id, its vector, and all that an answer needs of it."""

    id: str
    vector: Sequence[float]
    text: str
    source: str
    digest: str
    position: int
    heading: str = ""
    metadata: JsonObject = field(default_factory=dict)

    def payload(self) -> dict[str, object]:
        """Return all but id and vector."""
        return {key: value for key, value in vars(self).items() if key not in ("id", "vector")}


@dataclass(frozen=True)
class Hit:
    """A point that was found; `score` is the cosine of its angle to the question's vector."""

    score: float
    text: str
    source: str
    position: int
    heading: str
    metadata: JsonObject

    @classmethod
    def of(cls, score: float, payload: JsonObject) -> Hit:
        """Return what a payload of the store says."""
        return cls(
            score=float(score),
            text=text_of(payload, "text") or "",
            source=text_of(payload, "source") or "",
            position=count_of(payload, "position") or 0,
            heading=text_of(payload, "heading") or "",
            metadata=part_of(payload, "metadata"),
        )


def build(question: str, hits: Sequence[Hit]) -> str:
    """Return the prompt for `question`; source n is `hits[n - 1]`."""
    sources = [f"[{n}] {with_heading(hit.heading, hit.text)}" for n, hit in enumerate(hits, 1)]
    listed = "\n\n".join(sources) or "(There are none.)"
    return f"{INSTRUCTION}\n\nSources:\n\n{listed}\n\nQuestion: {question}\n\nAnswer:"
