"""The routes of retrieval, and what it adds to the answers of /query."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime, timezone

from flask import Flask, Response

from client.api import answers
from client.api.answers import SearchAnswer, SearchTimings, Timings
from client.api.bodies import Points, Search
from client.api.json_body import read, sent
from client.errors import BadInput, PromptTooLong
from client.retrieval import Retrieved, Retriever
from contracts.generation import Generation
from contracts.json_object import JsonObject
from engines.ollama import read_counts

#: Of a source's text, in an answer of /query; /search gives all of it.
EXCERPT_CHARACTERS = 300


def add_retrieval_routes(app: Flask, retrieval: Retriever) -> None:
    """Add POST /search and POST /points."""

    @app.post("/search")
    def search() -> tuple[Response, int]:
        asked = read(Search)
        found = retrieval.find(asked.query, asked)
        return sent(SearchAnswer(hits=_hits(found), timings=_timings(found)))

    @app.post("/points")
    def points() -> tuple[Response, int]:
        return sent(retrieval.put(read(Points)))


def with_sources(answer: JsonObject, found: Retrieved | None) -> JsonObject:
    """Return an answer of Ollama with the sources that it had and the time of each step."""
    if found is None:
        return answer
    return {**answer, "sources": _sources(found), "timings": _all_timings(answer, found)}


@contextlib.contextmanager
def sources_fit(found: Retrieved | None) -> Iterator[None]:
    """Ask Ollama within this. Raises BadInput if the sources are more than it reads."""
    try:
        yield
    except PromptTooLong as error:
        if found is None:
            raise
        raise BadInput(
            f"The question and its {len(found.hits)} sources are longer than the model reads; "
            "ask for a smaller top_k, or raise context_length in the recipe."
        ) from error


def head_of(found: Retrieved | None, model: str) -> bytes:
    """Return the first line of a streamed answer: a chunk without text, as Ollama's are, with the
    sources and the times of what came before; nothing if there was no retrieval."""
    if found is None:
        return b""
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    chunk = {"model": model, "created_at": now, "response": "", "done": False}
    line = {**chunk, "sources": _sources(found), "timings": _timings(found).as_json()}
    return json.dumps(line).encode() + b"\n"


def _sources(found: Retrieved) -> list[JsonObject]:
    """The sources by the numbers that they have in the prompt, each with an excerpt."""
    return [hit.as_json() for hit in _hits(found, EXCERPT_CHARACTERS)]


def _hits(found: Retrieved, characters: int | None = None) -> list[answers.Hit]:
    """The hits by number, each with so much of its text (None: all)."""
    return [
        answers.Hit(
            number=number,
            score=hit.score,
            source=hit.source,
            position=hit.position,
            heading=hit.heading,
            metadata=hit.metadata,
            text=hit.text[:characters],
        )
        for number, hit in enumerate(found.hits, 1)
    ]


def _timings(found: Retrieved) -> SearchTimings:
    return SearchTimings(embed=found.embed_s, search=found.search_s)


def _all_timings(answer: JsonObject, found: Retrieved) -> JsonObject:
    counts = read_counts(Generation(), answer)
    return Timings(
        embed=found.embed_s, search=found.search_s, prefill=counts.prefill, decode=counts.decode
    ).as_json()
