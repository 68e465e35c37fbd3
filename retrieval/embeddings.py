"""Embeddings by Ollama (/api/embed), in batches; several replicas work on batches at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from retrieval.errors import EmbeddingFailed, TooLong

#: Texts in one request to Ollama. More gain nothing: it works on as many as it has slots.
BATCH = 16

Vector = list[float]


@dataclass(frozen=True)
class Embedded:
    """A vector for each text; `truncated`: of how many texts the model did not read the end."""

    vectors: list[Vector]
    truncated: int


class Embedder:
    """Embeds with one model.

    `ask` sends a body to /api/embed of some replica and returns its answer; it raises TooLong
    where a text is longer than the model's context. `replicas`: how many there are to ask at once.
    """

    def __init__(
        self,
        model: str,
        ask: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        replicas: Callable[[], int] = lambda: 1,
    ) -> None:
        self.model = model
        self._ask = ask
        self._replicas = replicas

    def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of `texts`, in their order. Raises EmbeddingFailed, and what `ask` raises."""
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        if len(batches) <= 1:
            done = [self._batch(batch) for batch in batches]
        else:
            with ThreadPoolExecutor(min(len(batches), max(1, self._replicas()))) as pool:
                done = list(pool.map(self._batch, batches))
        vectors = [vector for part in done for vector in part.vectors]
        if len({len(vector) for vector in vectors}) > 1:
            raise EmbeddingFailed(f"Ollama's vectors by {self.model} are not of one dimension.")
        return Embedded(vectors, sum(part.truncated for part in done))

    def _batch(self, texts: Sequence[str]) -> Embedded:
        """Where one of several is too long, each alone: Ollama does not say which it was."""
        try:
            return Embedded(self._vectors(texts, truncate=False), 0)
        except TooLong:
            if len(texts) == 1:
                return Embedded(self._vectors(texts, truncate=True), 1)
        alone = [self._batch([text]) for text in texts]
        return Embedded([part.vectors[0] for part in alone], sum(part.truncated for part in alone))

    def _vectors(self, texts: Sequence[str], truncate: bool) -> list[Vector]:
        answer = self._ask({"model": self.model, "input": list(texts), "truncate": truncate})
        vectors = answer.get("embeddings")
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise EmbeddingFailed(f"Ollama's answer by {self.model} is not {len(texts)} vectors.")
        if not all(map(_is_vector, vectors)):
            raise EmbeddingFailed(
                f"Ollama's answer by {self.model} is no vector of numbers; take an embedding model."
            )
        return vectors


def _is_vector(value: Any) -> bool:
    """Numbers, not all of them zero: of those a cosine is not defined."""
    return (
        isinstance(value, list)
        and any(value)
        and all(isinstance(x, (int, float)) and math.isfinite(x) for x in value)
    )
