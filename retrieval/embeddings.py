"""Embeddings by Ollama (/api/embed), in batches; several replicas work on batches at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from contracts.json_object import JsonObject
from engines.ollama import embed_body
from retrieval.errors import EmbeddingFailed, TooLong

#: Texts in one request to Ollama. More gain nothing: it works on as many as it has slots.
BATCH = 16

Vector = list[float]


#: A text that any model embeds: if it gets no vector either, it is not for what is in a text.
_PLAIN_TEXT = "text"


@dataclass(frozen=True)
class Embedded:
    """A vector for each text, or None for one that the model does not embed; `truncated`: of how
    many texts the model did not read the end; `refused`: why, by the number of the text."""

    vectors: list[Vector | None]
    truncated: int
    refused: Mapping[int, str]


class Embedder:
    """Embeds with one model.

    `ask` sends a body to /api/embed of some replica and returns its answer; it raises TooLong
    if a text is longer than the model's context, and EmbeddingFailed if Ollama answers with
    an error. `replicas`: how many there are to ask at once.
    """

    def __init__(
        self,
        model: str,
        ask: Callable[[JsonObject], JsonObject],
        replicas: Callable[[], int] = lambda: 1,
    ) -> None:
        self.model = model
        self._ask = ask
        self._replicas = replicas

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return the vectors of `texts`, in their order.

        Raises EmbeddingFailed if not even a plain text gets one, and what `ask` raises.
        """
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        if len(batches) <= 1:
            done = [self._batch(batch) for batch in batches]
        else:
            with ThreadPoolExecutor(min(len(batches), max(1, self._replicas()))) as pool:
                done = list(pool.map(self._batch, batches))
        found = _joined(done)
        if len({len(vector) for vector in found.vectors if vector is not None}) > 1:
            raise EmbeddingFailed(f"Ollama's vectors by {self.model} are not of one dimension.")
        if found.refused and len(found.refused) == len(texts):
            self._vectors([_PLAIN_TEXT], truncate=True)
        return found

    def _batch(self, texts: Sequence[str]) -> Embedded:
        """If one of several is too long, or gets no vector, each alone: Ollama does not say
        which it was."""
        try:
            return Embedded([*self._vectors(texts, truncate=False)], 0, {})
        except TooLong:
            if len(texts) == 1:
                return self._cut(texts[0])
        except EmbeddingFailed as error:
            if len(texts) == 1:
                return Embedded([None], 0, {0: str(error)})
        return _joined([self._batch([text]) for text in texts])

    def _cut(self, text: str) -> Embedded:
        try:
            return Embedded([*self._vectors([text], truncate=True)], 1, {})
        except (EmbeddingFailed, TooLong) as error:
            return Embedded([None], 0, {0: str(error)})

    def _vectors(self, texts: Sequence[str], truncate: bool) -> list[Vector]:
        answer = self._ask(embed_body(self.model, texts, truncate))
        vectors = answer.get("embeddings")
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise EmbeddingFailed(f"Ollama's answer by {self.model} is not {len(texts)} vectors.")
        if not all(map(_is_vector, vectors)):
            raise EmbeddingFailed(
                f"Ollama's answer by {self.model} is no vector of numbers; take an embedding model."
            )
        return vectors


def _joined(parts: Sequence[Embedded]) -> Embedded:
    """One after the other."""
    vectors: list[Vector | None] = []
    refused: dict[int, str] = {}
    for part in parts:
        refused |= {len(vectors) + number: why for number, why in part.refused.items()}
        vectors += part.vectors
    return Embedded(vectors, sum(part.truncated for part in parts), refused)


def _is_vector(value: object) -> bool:
    """Numbers, not all of them zero: of those a cosine is not defined."""
    return (
        isinstance(value, list)
        and any(value)
        and all(isinstance(x, (int, float)) and math.isfinite(x) for x in value)
    )
