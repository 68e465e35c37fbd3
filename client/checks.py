"""What comes in: bodies that are JSON objects, and fields that are what they must be.

The tables QUERY, SEARCH, POINTS and BENCHMARK are the one place for fields and bounds: they check
what comes in, and /openapi.json and docs/api.md are made of them.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from client.errors import BadInput, Unsupported
from client.fields import Field, boolean, number, objects, one_of, seconds_by_name, text, whole
from client.fields import pattern as matching
from client.retrieval_fields import (
    MAX_COUNT,
    chunks,
    filter_field,
    retrieval_option,
    stored_text,
)
from loadgen.options import (
    ARRIVALS,
    DEFAULT_TIMEOUT_S,
    LIMITS,
    MAX_PROMPT_BYTES,
    RANGES,
    RUN_ID,
    SLO_NAMES,
)
from retrieval.settings import MAX_TOP_K

MAX_BODY_BYTES = 2_000_000
#: Levels of objects and arrays in a body. Python's own JSON gives up at about a thousand.
MAX_DEPTH = 100
#: Unknown keys that a message names; a nearest known key is looked for with each, which takes time.
MOST_NAMED = 10
MAX_REQUESTS = LIMITS["requests"][1]
MAX_SECONDS = RANGES["duration"][1]


@dataclass(frozen=True)
class Body:
    """The fields of a body, and how they go together.

    `required` ones must be given; of each pair in `apart` at most one may; the first of each pair
    in `needs` goes only with one of the others. `too_much` finds what is wrong with fields that are
    right each on its own.
    """

    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()
    needs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    too_much: Callable[[Mapping[str, Any]], str | None] = lambda given: None


def _too_much(given: Mapping[str, Any]) -> str | None:
    """Of a benchmark: more requests, or a longer time, than are to be had."""
    clients, each = given.get("n_clients", 1), given.get("n_requests_per_client", 1)
    if clients * each > MAX_REQUESTS:
        return (
            f"n_clients x n_requests_per_client is {clients * each}, but must be at most "
            f"{MAX_REQUESTS}"
        )
    rate = given.get("rate")
    if rate and rate * given.get("duration_seconds", 0) > MAX_REQUESTS:
        asked = rate * given["duration_seconds"]
        return f"rate x duration_seconds is {asked:g}, but must be at most {MAX_REQUESTS}"
    if rate and given.get("n_requests", 0) > MAX_SECONDS * rate:
        return f"n_requests at this rate take longer than {MAX_SECONDS:g} seconds"
    return None


def _beyond(given: Mapping[str, Any]) -> str | None:
    """Of points: a chunk that is none of those that were announced."""
    positions = [chunk["position"] for chunk in given.get("chunks", [])]
    beyond = [position for position in positions if position >= given["count"]]
    return f"a chunk's position is {beyond[0]}, but count is {given['count']}" if beyond else None


_MODEL = matching(
    "Name of a model; the deployment's where none is given.",
    r"[!-~]{1,256}",
    "a name of 1 to 256 letters, digits and signs of ASCII",
)
QUERY = Body(
    {
        "prompt": text("What the model is asked.", MAX_PROMPT_BYTES),
        "model": _MODEL,
        "system": text("A system prompt.", MAX_PROMPT_BYTES),
        "options": objects("Ollama's options, such as num_predict, temperature or seed."),
        "stream": boolean("Pass Ollama's chunks on as they come (default: false)."),
        "retrieval": retrieval_option(),
    },
    required=("prompt",),
)
SEARCH = Body(
    {
        "query": text("What is looked for.", MAX_PROMPT_BYTES),
        "top_k": whole("Hits at most (default: the recipe's).", 1, MAX_TOP_K),
        "filter": filter_field(),
    },
    required=("query",),
)
POINTS = Body(
    {
        "source": stored_text("The document's name: the absolute path of its file.", 8_192),
        "version": stored_text("A digest of its content and of how it is cut.", 256),
        "count": whole("Chunks that this version has in all.", 1, MAX_COUNT),
        "chunks": chunks(),
    },
    required=("source", "version", "count"),
    too_much=_beyond,
)
BENCHMARK = Body(
    {
        "n_clients": whole("Clients at once (default: 1).", *LIMITS["clients"]),
        "n_requests_per_client": whole(
            "Requests of each client, one after another (default: 1).", 1, MAX_REQUESTS
        ),
        "rate": number(
            "Requests per second, whether earlier ones have ended or not (an open loop), instead "
            "of a number of clients.",
            *RANGES["rate"],
        ),
        "arrivals": one_of("How those arrive (default: poisson).", ARRIVALS),
        "n_requests": whole("Requests in all, at a rate.", *LIMITS["requests"]),
        "max_concurrency": whole(
            "Requests in flight at most, at a rate (default: no limit).", *LIMITS["max_concurrency"]
        ),
        "duration_seconds": number(
            "Send for so long, instead of a number of requests.", *RANGES["duration"]
        ),
        "prompt": text("What each request asks.", MAX_PROMPT_BYTES),
        "input_tokens": whole(
            "Built-in prompts of about this length, each different, instead of a prompt.",
            *LIMITS["input_tokens"],
        ),
        "retrieval": boolean(
            "Measure /query with retrieval, and its steps, instead of Ollama (default: false)."
        ),
        "model": _MODEL,
        "num_predict": whole(
            "Output tokens at most (default: the model decides).", *LIMITS["num_predict"]
        ),
        "seed": whole("Request i has the seed SEED + i (default: 0).", *LIMITS["seed"]),
        "warmup": whole(
            "Requests to each replica beforehand, not counted (default: 1).", *LIMITS["warmup"]
        ),
        "timeout_seconds": number(
            f"Of a request (default: {DEFAULT_TIMEOUT_S:g}).", *RANGES["timeout"]
        ),
        "goodput": seconds_by_name(
            "Limits that a good request keeps: the share and the rate of good requests are told.",
            SLO_NAMES,
            RANGES["timeout"][1],
        ),
        "processes": whole(
            "Processes of the load generator (default: by load and cores).", *LIMITS["processes"]
        ),
        "wait": boolean("Answer at the end, with the result; else at once (default: true)."),
        "id": matching(
            "Name of the run: asked for once more, it is joined, or its result returned.",
            RUN_ID.pattern,
            "1 to 100 of A-Z a-z 0-9 . _ - and not begin with a dot",
        ),
    },
    apart=(
        ("rate", "n_clients"),
        ("rate", "n_requests_per_client"),
        ("duration_seconds", "n_requests_per_client"),
        ("duration_seconds", "n_requests"),
        ("input_tokens", "prompt"),
    ),
    needs=(
        ("rate", ("n_requests", "duration_seconds")),
        ("arrivals", ("rate",)),
        ("n_requests", ("rate",)),
        ("max_concurrency", ("rate",)),
    ),
    too_much=_too_much,
)


def read_body() -> dict[str, Any]:
    """The JSON object that came in. Raises Unsupported, BadInput, or werkzeug's 413."""
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise Unsupported("The body must be JSON: send Content-Type: application/json.")
    data = _whole_body()
    if len(data) == MAX_BODY_BYTES:  # of a chunked body werkzeug quietly drops what is above it
        raise RequestEntityTooLarge()
    try:
        body = _DECODER.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise BadInput(_TOO_DEEP) from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise BadInput(f"The body is not JSON: {error}.") from error
    if _is_deep(body):
        raise BadInput(_TOO_DEEP)
    if not isinstance(body, dict):
        raise BadInput(f"The body must be a JSON object, not {shown(body)}.")
    return body


_TOO_DEEP = f"The body is nested too deeply: at most {MAX_DEPTH} objects or arrays in each other."


def _whole_body() -> bytes:
    try:
        return request.get_data()
    except ClientDisconnected as error:  # or it has stalled: see client/serving.py
        raise BadInput("The body did not come to its end.") from error


def _is_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        level = [inner for part in level for inner in _inner(part)]
        depth += 1
    return bool(level)


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return made


_DECODER = json.JSONDecoder(
    parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_no_twins
)


def checked(body: Mapping[str, Any], rules: Body) -> dict[str, Any]:
    """The fields that were given (null counts as not given). Raises BadInput naming all errors
    (of many unknown keys the first ones)."""
    given = {key: value for key, value in body.items() if value is not None}
    problems = _unknown_keys([key for key in body if key not in rules.fields], rules.fields)
    problems += [
        f"{key} is {shown(given[key])}, but must be {field.allowed}"
        for key, field in rules.fields.items()
        if key in given and not field.right(given[key])
    ]
    problems += _together(given, rules)
    too_much = None if problems else rules.too_much(given)
    if too_much:
        problems.append(too_much)
    if problems:
        raise BadInput("; ".join(problems) + ".")
    return {key: rules.fields[key].made(value) for key, value in given.items()}


def _together(given: Mapping[str, Any], rules: Body) -> list[str]:
    problems = [f"{key} is missing" for key in rules.required if key not in given]
    problems += [f"{a} does not go with {b}" for a, b in rules.apart if a in given and b in given]
    problems += [
        f"{key} goes only with {' or '.join(others)}"
        for key, others in rules.needs
        if key in given and not any(other in given for other in others)
    ]
    return problems


def _unknown_keys(keys: Sequence[str], known: Iterable[str]) -> list[str]:
    problems = [_unknown(key, known) for key in keys[:MOST_NAMED]]
    more = len(keys) - MOST_NAMED
    return [*problems, f"{more} more are unknown"] if more > 0 else problems


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key[:100], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{shown(key)} is unknown ({hint})"


def shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
