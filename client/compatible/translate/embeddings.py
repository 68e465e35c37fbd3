"""Embeddings as OpenAI's API has them, by Ollama's /api/embed."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence

from client.compatible.compact import compact
from client.compatible.errors import EngineFailed
from client.compatible.translate.completion_bodies import EmbeddingBody
from contracts.json_object import JsonObject
from engines.ollama import embed_body, input_tokens_of


def native_embedding(body: EmbeddingBody, model: str) -> bytes:
    """Return the body for /api/embed."""
    more = {} if body.dimensions is None else {"dimensions": body.dimensions}
    return compact({**embed_body(model, body.input, truncate=False), **more})


def embeddings(body: EmbeddingBody, answer: JsonObject, model: str) -> JsonObject:
    """Return the answer. Raises EngineFailed: there is not a vector for each text."""
    vectors = answer.get("embeddings")
    if not isinstance(vectors, list) or len(vectors) != len(body.input):
        raise EngineFailed("The engine did not answer with a vector for each text.")
    coded = _base64 if body.encoding_format == "base64" else list
    data = [
        {"object": "embedding", "index": index, "embedding": coded(vector)}
        for index, vector in enumerate(vectors)
    ]
    tokens = input_tokens_of(answer) or 0
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _base64(vector: Sequence[float]) -> str:
    numbers = array("f", vector)
    if _BIG_ENDIAN:
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\x00\x01"
