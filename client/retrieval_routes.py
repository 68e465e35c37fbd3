"""The routes of retrieval, and what it adds to the answers of /query."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from flask import Flask

from client.checks import POINTS, SEARCH, checked, read_body
from client.errors import BadInput, OllamaFailed
from client.retrieval import Found, Retrieval, too_long

if TYPE_CHECKING:
    from retrieval.store import Hit

#: Of a source's text, in an answer of /query; /search gives all of it.
EXCERPT_CHARACTERS = 300


def add_retrieval_routes(app: Flask, retrieval: Retrieval) -> None:
    """POST /search and POST /points."""

    @app.post("/search")
    def search() -> dict[str, Any]:
        given = checked(read_body(), SEARCH)
        found = retrieval.find(given.pop("query"), **given)
        hits = [{**_place(number, hit), "text": hit.text} for number, hit in _numbered(found)]
        return {"hits": hits, "timings": found.timings}

    @app.post("/points")
    def points() -> dict[str, Any]:
        given = checked(read_body(), POINTS)
        return retrieval.put(
            given["source"], given["version"], given["count"], given.get("chunks", [])
        )


def with_sources(answer: dict[str, Any], found: Found | None) -> dict[str, Any]:
    """An answer of Ollama with the sources that it had and the time of each step."""
    if found is None:
        return answer
    return {**answer, "sources": sources_of(found), "timings": timings_of(answer, found)}


@contextlib.contextmanager
def sources_fit(found: Found | None) -> Iterator[None]:
    """Asking Ollama, in this. Raises BadInput where the sources are longer than the model reads."""
    try:
        yield
    except OllamaFailed as error:
        if found is None or not too_long(error):
            raise
        raise BadInput(
            f"The question and its {len(found.hits)} sources are longer than the model reads; "
            "ask for a smaller top_k, or raise context_length in the recipe."
        ) from error


def head_of(found: Found | None, model: str) -> bytes:
    """The first line of a streamed answer: a chunk without text, as Ollama's are, with the sources
    and the times of what came before; nothing where there was no retrieval."""
    if found is None:
        return b""
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    chunk = {"model": model, "created_at": now, "response": "", "done": False}
    line = {**chunk, "sources": sources_of(found), "timings": found.timings}
    return json.dumps(line).encode() + b"\n"


def sources_of(found: Found) -> list[dict[str, Any]]:
    """The sources by the numbers that they have in the prompt, each with an excerpt."""
    return [
        {**_place(number, hit), "text": hit.text[:EXCERPT_CHARACTERS]}
        for number, hit in _numbered(found)
    ]


def timings_of(answer: Mapping[str, Any], found: Found) -> dict[str, float | None]:
    """Seconds of each step; prefill and decode by Ollama's own count."""
    steps = {"prefill": "prompt_eval_duration", "decode": "eval_duration"}
    ours: dict[str, float | None] = {**found.timings}
    for name, key in steps.items():
        nanoseconds = answer.get(key)
        ours[name] = nanoseconds / 1e9 if isinstance(nanoseconds, (int, float)) else None
    return ours


def _numbered(found: Found) -> list[tuple[int, Hit]]:
    return list(enumerate(found.hits, 1))


def _place(number: int, hit: Hit) -> dict[str, Any]:
    return {
        "number": number,
        "score": hit.score,
        "source": hit.source,
        "position": hit.position,
        "heading": hit.heading,
        "metadata": hit.metadata,
    }
