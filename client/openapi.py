"""What the service is, as an OpenAPI document: its routes, their answers, and every error.

The bodies that come in are made of the tables in client.checks; what goes out is described as far
as callers may rely on it: more keys may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client import errors
from client.checks import BENCHMARK, POINTS, QUERY, SEARCH, Body
from client.errors import ServiceError
from client.health import DEGRADED, HEALTHY, UNHEALTHY
from client.meanings import MEANINGS
from loadgen import child
from loadgen.options import RUN_ID
from loadgen.stats import PERCENTILES

Schema = dict[str, Any]

_NULL: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TRUTH: Schema = {"type": "boolean"}
_SECONDS: Schema = {"type": "number", "minimum": 0}

#: What a body can do wrong, by status.
BODY_ERRORS = {
    400: "The body is not what it must be; the message names all that is wrong.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
}
#: What can go wrong behind us, by status.
OLLAMA_ERRORS: Mapping[int, type[ServiceError]] = {
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


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "orch client service",
            "version": "1",
            "description": "HTTP in front of the Ollama of one deployment, and benchmarks of it.",
        },
        "paths": {
            "/health": {"get": _health()},
            "/query": {"post": _query()},
            "/search": {"post": _search()},
            "/points": {"post": _points()},
            "/benchmark": {"post": _start()},
            "/benchmark/{id}": {"parameters": [_id()], "get": _show(), "delete": _cancel()},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _description()},
        },
        "components": {"schemas": _components()},
    }


# --- what comes in ---


def schema_of(body: Body) -> Schema:
    """The JSON Schema of a body. Null counts as not given."""
    rules = [*(_apart(a, b) for a, b in body.apart), *(_needs(*pair) for pair in body.needs)]
    return {
        "type": "object",
        "properties": {name: _optional(name, body) for name in body.fields},
        "required": list(body.required),
        "additionalProperties": False,
        **({"allOf": rules} if rules else {}),
    }


def _optional(name: str, body: Body) -> Schema:
    field = body.fields[name]
    schema = {"description": field.about, **field.schema}
    if name not in body.required:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        schema["type"] = [*kinds, "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _apart(a: str, b: str) -> Schema:
    """At most one of two is given."""
    return {"anyOf": [{"properties": {name: _NULL}} for name in (a, b)]}


def _needs(name: str, others: tuple[str, ...]) -> Schema:
    """One is not given, or one of the others is."""
    given = [{"required": [o], "properties": {o: {"not": _NULL}}} for o in others]
    return {"anyOf": [{"properties": {name: _NULL}}, *given]}


def _body(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _named(name)}}}


def _id() -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{RUN_ID.pattern}$"}
    return {"name": "id", "in": "path", "required": True, "schema": schema}


# --- the routes ---


def _health() -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Whether Ollama answers, and what each replica says of itself.",
        "responses": {
            "200": _json("At least one replica answers.", _named("Health")),
            "503": _json("None does, or its address is not known.", _any("Unhealthy", "Error")),
        },
    }


def _query() -> dict[str, Any]:
    answer = _json("Ollama's answer, whole or, with stream, as its lines come.", _named("Answer"))
    answer["content"]["application/x-ndjson"] = {"schema": _TEXT}
    answer["headers"] = {
        "Orch-Replica": {"schema": _TEXT, "description": "Who answers (with stream)."},
        "Orch-Retried": {"schema": {"type": "string", "enum": ["true", "false"]}},
    }
    return {
        "operationId": "query",
        "summary": "Ask the model; with retrieval, from the documents that were ingested.",
        "requestBody": _body("Query"),
        "responses": {"200": answer, **_errors({**BODY_ERRORS, **_behind()})},
    }


def _behind() -> dict[int, str]:
    """What can go wrong where both Ollama and Qdrant may be asked."""
    ollama = {status: str(error.__doc__) for status, error in OLLAMA_ERRORS.items()}
    return {**ollama, **RETRIEVAL_ERRORS}


def _search() -> dict[str, Any]:
    return {
        "operationId": "search",
        "summary": "The chunks of the ingested documents that are nearest to a text.",
        "requestBody": _body("Search"),
        "responses": {
            "200": _json("The hits, best first.", _named("SearchAnswer")),
            **_errors({**BODY_ERRORS, **_behind()}),
        },
    }


def _points() -> dict[str, Any]:
    return {
        "operationId": "points",
        "summary": "Store chunks of a document; what is there already is left as it is. Once all "
        "are there, those of other versions of it are removed.",
        "requestBody": _body("Points"),
        "responses": {
            "200": _json("They are stored, durably.", _named("PointsAnswer")),
            **_errors({**BODY_ERRORS, **_behind()}),
        },
    }


def _start() -> dict[str, Any]:
    wrong = {
        **BODY_ERRORS,
        409: "Another benchmark runs, this id has other parameters, or the run was cancelled. With "
        f"retrieval: {errors.NoRetrieval.__doc__} Or: {errors.OtherCollection.__doc__} Or: "
        f"{errors.NotPublished.__doc__} Or: {errors.NoRoom.__doc__}",
        500: str(errors.CannotWrite.__doc__),
        502: f"{errors.BenchmarkFailed.__doc__} Or: {errors.QdrantFailed.__doc__}",
        503: f"{errors.NotReady.__doc__} Or: {errors.QdrantUnreachable.__doc__}",
    }
    links = {name: _link(operation) for name, operation in _FOLLOWING.items()}
    return {
        "operationId": "startBenchmark",
        "summary": "Run a benchmark, one at a time. It goes on when the connection breaks.",
        "requestBody": _body("BenchmarkRequest"),
        "responses": {
            "200": _json("The result.", _named("BenchmarkResult")) | {"links": links},
            "202": _json("It has begun (wait: false).", _named("Begun")) | {"links": links},
            **_errors(wrong),
        },
    }


_FOLLOWING = {"show": "showBenchmark", "cancel": "cancelBenchmark"}


def _link(operation: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}}


def _show() -> dict[str, Any]:
    return {
        "operationId": "showBenchmark",
        "summary": "How far a benchmark is, and, once it has ended, its result.",
        "responses": {
            "200": _json("It is known.", _any("BenchmarkResult", "BenchmarkState")),
            **_errors({404: str(errors.Unknown.__doc__), 502: "Its results cannot be read."}),
        },
    }


def _cancel() -> dict[str, Any]:
    return {
        "operationId": "cancelBenchmark",
        "summary": "End a benchmark now; what was measured is kept.",
        "responses": {
            "200": _json("It is cancelled.", _named("BenchmarkState")),
            **_errors({404: str(errors.Unknown.__doc__), 409: "It has ended by itself."}),
            **_errors({502: "Its results cannot be read."}),
        },
    }


def _metrics() -> dict[str, Any]:
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": _TEXT}}}
    return {"operationId": "metrics", "summary": "Metrics.", "responses": {"200": text}}


def _description() -> dict[str, Any]:
    found = _json("OpenAPI 3.1.", {"type": "object", "required": ["openapi", "info", "paths"]})
    return {"operationId": "openapi", "summary": "This document.", "responses": {"200": found}}


def _errors(texts: Mapping[int, str]) -> dict[str, Any]:
    return {str(status): _json(text, _named("Error")) for status, text in texts.items()}


def _json(text: str, schema: Schema) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


# --- what goes out ---


def _components() -> dict[str, Schema]:
    bodies = {
        "Query": schema_of(QUERY),
        "Search": schema_of(SEARCH),
        "Points": schema_of(POINTS),
        "BenchmarkRequest": schema_of(BENCHMARK),
    }
    return bodies | {name: _explained(name, schema) for name, schema in _answers().items()}


def _explained(name: str, schema: Schema) -> Schema:
    """The schema of an answer, with the meaning of each of its keys."""
    explained = {
        key: {"description": MEANINGS[name][key], **part}
        for key, part in schema["properties"].items()
    }
    return {**schema, "properties": explained}


def _answers() -> dict[str, Schema]:
    return {
        "Error": _object({"error": _named("ErrorWords")}, closed=True),
        "ErrorWords": _object({"type": _TEXT, "message": _TEXT}, closed=True),
        "Health": _healthy(HEALTHY, DEGRADED),
        "Unhealthy": _healthy(UNHEALTHY, error=_named("ErrorWords")),
        "Replica": _replica(),
        "Answer": _answer(),
        "Hit": _hit(),
        "SearchAnswer": _search_answer(),
        "PointsAnswer": _object(
            {**dict.fromkeys(("points", "added", "present", "removed", "truncated"), _COUNT)}
            | {"complete": _TRUTH}
        ),
        "Begun": _object({"id": _TEXT, "state": _states()}),
        "Progress": _progress(),
        "BenchmarkState": _state(),
        "BenchmarkResult": _result(),
        "Distribution": _distribution(),
    }


def _answer() -> Schema:
    schema = _object({"request_time": _SECONDS, "replica": _TEXT, "retried": _TRUTH})
    steps = ("embed", "search", "prefill", "decode")
    schema["properties"] |= {  # where there was retrieval
        "sources": {"type": "array", "items": _named("Hit")},
        "timings": _object(dict.fromkeys(steps, _or_null(_SECONDS))),
    }
    return schema


def _hit() -> Schema:
    return _object(
        {
            "number": {"type": "integer", "minimum": 1},
            "score": {"type": "number"},
            "source": _TEXT,
            "position": _COUNT,
            "heading": _TEXT,
            "metadata": {"type": "object"},
            "text": _TEXT,
        }
    )


def _search_answer() -> Schema:
    steps = _object({"embed": _SECONDS, "search": _SECONDS})
    return _object({"hits": {"type": "array", "items": _named("Hit")}, "timings": steps})


def _collection() -> Schema:
    """The state of the collection; only where the deployment has retrieval."""
    return _object(
        {
            **dict.fromkeys(("collection", "embedding_model", "qdrant"), _TEXT),
            "ok": _TRUTH,
            "reason": _or_null(_TEXT),
            "points": _or_null(_COUNT),
        }
    )


def _healthy(*states: str, **more: Schema) -> Schema:
    schema = _object(
        {
            "status": {"type": "string", "enum": list(states)},
            "ollama_host": _TEXT,
            "ollama": {"type": "array", "minItems": 1, "items": _named("Replica")},
            **dict.fromkeys(("model", "deployment", "job_id"), _or_null(_TEXT)),
            "ollama_job": _TEXT,
            **more,
        }
    )
    schema["properties"]["retrieval"] = _collection()  # where the deployment has it
    return schema


def _replica() -> Schema:
    return _object(
        {
            "address": _TEXT,
            "ok": _TRUTH,
            **dict.fromkeys(("reason", "version", "model"), _or_null(_TEXT)),
            **dict.fromkeys(("available", "loaded"), _or_null(_TRUTH)),
            "placement": {"type": ["object", "null"]},
            "outstanding": _COUNT,
        }
    )


def _progress() -> Schema:
    return _object(
        {
            "phase": _TEXT,
            "planned": _or_null(_COUNT),
            "done": _COUNT,
            "failed": _COUNT,
            "elapsed_seconds": _SECONDS,
            **dict.fromkeys(child.FIGURES_SO_FAR, _or_null(_SECONDS)),
        }
    )


def _state() -> Schema:
    """Of a run that goes on, that failed, or that was cancelled."""
    states = _states(child.RUNNING, child.FAILED, child.CANCELLED)
    schema = _object({"id": _TEXT, "state": states, "progress": _any("Progress", None)})
    schema["properties"]["error"] = _named("ErrorWords")  # where it failed
    return schema


def _result() -> Schema:
    counts = ("total_queries", "successful", "failed", "retried")
    figures = ("avg_request_time", "queries_per_second")
    latencies = dict.fromkeys(("ttft", "itl", "tpot", "e2e"), _named("Distribution"))
    return _object(
        {
            "id": _TEXT,
            "state": _states(child.DONE, child.CANCELLED),
            "progress": _named("Progress"),
            **dict.fromkeys(("n_clients", "n_requests_per_client"), _or_null(_COUNT)),
            **dict.fromkeys(counts, _COUNT),
            "total_time": _SECONDS,
            **dict.fromkeys(figures, _or_null(_SECONDS)),
            "results": {"type": "array", "items": {"type": "object"}},
            "latency_seconds": _object(latencies),
            "throughput": {"type": "object"},
            "validity": _object(
                {"valid": _TRUTH, "reasons": {"type": "array", "items": _TEXT}},
            ),
            "provenance": {"type": "object"},
        }
    )


def _distribution() -> Schema:
    names = ("mean", "std", "min", *(f"p{percent}" for percent in PERCENTILES), "max")
    return _object({**dict.fromkeys(names, _or_null(_SECONDS)), "n": _COUNT})


def _states(*states: str) -> Schema:
    known = (child.RUNNING, child.DONE, child.FAILED, child.CANCELLED)
    return {"type": "string", "enum": list(states or known)}


def _object(properties: dict[str, Schema], closed: bool = False) -> Schema:
    """An object in which all of these are; where it is not `closed`, others may come."""
    made: Schema = {"type": "object", "required": list(properties), "properties": properties}
    return made | {"additionalProperties": False} if closed else made


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _any(*names: str | None) -> Schema:
    return {"anyOf": [_NULL if name is None else _named(name) for name in names]}
