"""What the service is, as an OpenAPI document: its routes, their answers, and every error.

Bodies and answers are described by their models: of an answer that is as far as callers may rely on
it, since more keys may come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from pydantic.json_schema import JsonSchemaValue as Schema
from pydantic_core import core_schema

from client import errors
from client.api import answers, benchmark_answers, login_answers, openapi_entry
from client.api.bodies import BenchmarkRequest, Login, Points, Query, Search
from client.api.body_schemas import complete
from client.api.openapi_parts import BODY_ERRORS, REFERENCE, any_of, in_json, named, operation
from client.errors import RequestError
from client.live import described
from contracts.load import RUN_ID

_TEXT: Schema = {"type": "string"}

BODIES: Sequence[type[BaseModel]] = (Query, Search, Points, BenchmarkRequest, Login)
#: In the order in which docs/api.md has them.
ANSWERS: Sequence[type[BaseModel]] = (
    *(answers.Error, answers.ErrorWords),
    *(answers.Health, answers.Unhealthy, answers.Sleeping, answers.Replica, answers.Placement),
    answers.Collection,
    *(answers.Slots, answers.Answer, answers.Timings, answers.Hit),
    *(answers.SearchAnswer, answers.SearchTimings, answers.PointsAnswer, answers.RefusedChunk),
    *(benchmark_answers.Begun, benchmark_answers.Progress, benchmark_answers.BenchmarkState),
    *(benchmark_answers.BenchmarkResult, benchmark_answers.Latencies),
    *(benchmark_answers.Distribution, benchmark_answers.Validity),
    *(login_answers.LoginPlace, login_answers.LoggedIn, login_answers.Link),
    *described.ANSWERS,
)

#: What can go wrong behind us, by status.
OLLAMA_ERRORS: Mapping[int, type[RequestError]] = {
    429: errors.Busy,
    502: errors.OllamaFailed,
    503: errors.Unreachable,
    504: errors.TooSlow,
}
#: What can go wrong in retrieval, by status.
RETRIEVAL_ERRORS = {
    409: f"{errors.NoRetrieval.__doc__} Or: {errors.OtherCollection.__doc__}",
    502: f"{errors.QdrantFailed.__doc__} Or: {errors.OllamaFailed.__doc__}",
    503: f"{errors.QdrantUnreachable.__doc__} Or: {errors.Unreachable.__doc__}",
}


@cache
def text() -> str:
    """Return the document as JSON; it is made when it is first asked for."""
    return json.dumps(document(), indent=1)


def document() -> Schema:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "orch client service",
            "version": "1",
            "description": "HTTP in front of the engine of one deployment, and benchmarks of it.",
        },
        "paths": {
            "/health": {"get": _health()},
            "/slots": {"get": _slots()},
            "/state": {"get": described.show_state()},
            "/events": {"get": described.show_events()},
            "/query": {"post": _query()},
            "/search": {"post": _search()},
            "/points": {"post": _points()},
            "/benchmark": {"post": _start()},
            "/benchmark/{id}": {"parameters": [_id()], "get": _show(), "delete": _cancel()},
            **openapi_entry.paths(),
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _description()},
        },
        "components": {"schemas": _components()},
    }


def _id() -> Schema:
    schema = {"type": "string", "pattern": f"^{RUN_ID.pattern}$"}
    return {"name": "id", "in": "path", "required": True, "schema": schema}


# --- the routes ---


def _health() -> Schema:
    well = "At least one replica would answer a query, or an engine that it begins."
    ill = "None would, or its address is not known."
    return operation(
        "health",
        "Whether a query would be answered, and what each replica says of itself.",
        {
            "200": in_json(well, any_of("Health", "Sleeping")),
            "503": in_json(ill, any_of("Unhealthy", "Error")),
        },
        {},
    )


def _slots() -> Schema:
    return operation(
        "slots",
        "What the engines work on at once, and how much of it is asked for now; no engine is "
        "asked.",
        {"200": in_json("As HAProxy knows it.", named("Slots"))},
        {409: errors.NotServed.__doc__, 503: errors.DoorSilent.__doc__},
    )


def _query() -> Schema:
    answer = in_json(
        "The answer as Ollama has it, whole or, with stream, as its lines come.", named("Answer")
    )
    answer["content"]["application/x-ndjson"] = {"schema": _TEXT}
    answer["headers"] = {
        "Orch-Replica": {"schema": _TEXT, "description": "Who answers (with stream)."},
        "Orch-Retried": {"schema": {"type": "string", "enum": ["true", "false"]}},
    }
    summary = "Ask the model; with retrieval, from the documents that were ingested."
    return operation("query", summary, {"200": answer}, _behind(), "Query")


def _behind() -> dict[int, str | None]:
    """What can go wrong with a body for which both Ollama and Qdrant may be asked."""
    ollama = {status: error.__doc__ for status, error in OLLAMA_ERRORS.items()}
    return {**BODY_ERRORS, **ollama, **RETRIEVAL_ERRORS}


def _search() -> Schema:
    summary = "The chunks of the ingested documents that are nearest to a text."
    found = in_json("The hits, best first.", named("SearchAnswer"))
    return operation("search", summary, {"200": found}, _behind(), "Search")


def _points() -> Schema:
    return operation(
        "points",
        "Store chunks of a document; what is there already is left as it is. Once all are there, "
        "those of other versions of it are removed.",
        {"200": in_json("They are stored, durably.", named("PointsAnswer"))},
        _behind(),
        "Points",
    )


def _start() -> Schema:
    wrong: dict[int, str | None] = {
        **BODY_ERRORS,
        409: "Another benchmark runs, this id has other parameters, or the run was cancelled. With "
        f"retrieval: {errors.NoRetrieval.__doc__} Or: {errors.OtherCollection.__doc__} Or: "
        f"{errors.NotPublished.__doc__} Or: {errors.NoRoom.__doc__} Through the door: "
        f"{errors.NoDoor.__doc__}",
        500: errors.CannotWrite.__doc__,
        502: f"{errors.BenchmarkFailed.__doc__} Or: {errors.QdrantFailed.__doc__}",
        503: f"{errors.NotReady.__doc__} Or: {errors.QdrantUnreachable.__doc__}",
    }
    links = {name: _link(follows) for name, follows in _FOLLOWING.items()}
    return operation(
        "startBenchmark",
        "Run a benchmark, one at a time. It goes on when the connection breaks.",
        {
            "200": in_json("The result.", named("BenchmarkResult")) | {"links": links},
            "202": in_json(_BEGUN, named("Begun")) | {"links": links},
        },
        wrong,
        "BenchmarkRequest",
    )


_BEGUN = "It has begun (wait: false), or the job before goes on with it (docs/handover.md)."
_UNREADABLE = "Its results cannot be read."
_FOLLOWING = {"show": "showBenchmark", "cancel": "cancelBenchmark"}


def _link(name: str) -> Schema:
    return {"operationId": name, "parameters": {"id": "$response.body#/id"}}


def _show() -> Schema:
    return operation(
        "showBenchmark",
        "How far a benchmark is, and, once it has ended, its result.",
        {"200": in_json("It is known.", any_of("BenchmarkResult", "BenchmarkState"))},
        {404: errors.Unknown.__doc__, 502: _UNREADABLE},
    )


def _cancel() -> Schema:
    wrong = {
        404: errors.Unknown.__doc__,
        409: "It has ended by itself.",
        500: "Its folder takes no word that ends it in the job before.",
        502: _UNREADABLE,
    }
    cancelled = in_json("It is cancelled.", named("BenchmarkState"))
    summary = "End a benchmark now; what was measured is kept."
    return operation("cancelBenchmark", summary, {"200": cancelled}, wrong)


def _metrics() -> Schema:
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": _TEXT}}}
    return operation("metrics", "Metrics.", {"200": text}, {})


def _description() -> Schema:
    found = in_json("OpenAPI 3.1.", {"type": "object", "required": ["openapi", "info", "paths"]})
    return operation("openapi", "This document.", {"200": found}, {})


# --- bodies and answers ---


class _Schemas(GenerateJsonSchema):
    """Without what says nothing to a caller: titles of fields, and defaults, which their
    descriptions have."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        return self.generate_inner(schema["schema"])


def _components() -> dict[str, Schema]:
    bodies, going_out = _schemas(BODIES, "validation"), _schemas(ANSWERS, "serialization")
    for kind in BODIES:
        complete(bodies[kind.__name__], kind)
    return bodies | {kind.__name__: going_out[kind.__name__] for kind in ANSWERS}


def _schemas(kinds: Sequence[type[BaseModel]], mode: JsonSchemaMode) -> dict[str, Schema]:
    """Those of `kinds`, and of the models in them, by name."""
    _, found = models_json_schema(
        [(kind, mode) for kind in kinds], ref_template=REFERENCE, schema_generator=_Schemas
    )
    schemas: dict[str, Schema] = found["$defs"]
    return schemas
