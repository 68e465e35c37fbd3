"""What comes in: bodies that are JSON objects, and fields that are what they must be."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from client.errors import BadInput, Unsupported
from loadgen.options import LIMITS, MAX_PROMPT_BYTES, RUN_ID

MAX_BODY_BYTES = 2_000_000
MAX_REQUESTS = LIMITS["requests"][1]

# A check says what is allowed where a value is not.
Check = Callable[[Any], str | None]


def _text(limit: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogatepass")) <= limit:
            return None
        return f"a text of 1 to {limit} bytes"

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and low <= value <= high else f"a whole number from {low} to {high}"

    return check


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "an object"


def _run_id(value: Any) -> str | None:
    if isinstance(value, str) and RUN_ID.fullmatch(value):
        return None
    return "1 to 100 of A-Z a-z 0-9 . _ - and not begin with a dot"


QUERY: Mapping[str, Check] = {
    "prompt": _text(MAX_PROMPT_BYTES),
    "model": _text(256),
    "system": _text(MAX_PROMPT_BYTES),
    "options": _object,
    "stream": _boolean,
}
BENCHMARK: Mapping[str, Check] = {
    "n_clients": _integer(*LIMITS["clients"]),
    "n_requests_per_client": _integer(1, MAX_REQUESTS),
    "prompt": _text(MAX_PROMPT_BYTES),
    "model": _text(256),
    "num_predict": _integer(*LIMITS["num_predict"]),
    "seed": _integer(*LIMITS["seed"]),
    "warmup": _integer(*LIMITS["warmup"]),
    "wait": _boolean,
    "id": _run_id,
}


def read_body() -> dict[str, Any]:
    """The JSON object that came in. Raises Unsupported, BadInput, or werkzeug's 413."""
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise Unsupported("The body must be JSON: send Content-Type: application/json.")
    data = request.get_data()
    if len(data) == MAX_BODY_BYTES:  # of a chunked body werkzeug quietly drops what is above it
        raise RequestEntityTooLarge()
    try:
        body = json.loads(
            data.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_no_twins,
        )
    except RecursionError as error:
        raise BadInput("The body is nested too deeply.") from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise BadInput(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadInput(f"The body must be a JSON object, not {shown(body)}.")
    return body


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


def checked(body: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """The fields that were given (null counts as not given). Raises BadInput naming all errors."""
    given = {key: value for key, value in body.items() if value is not None}
    problems = [_unknown(key, checks) for key in body if key not in checks]
    for key, check in checks.items():
        allowed = check(given[key]) if key in given else None
        if allowed is not None:
            problems.append(f"{key} is {shown(given[key])}, but must be {allowed}")
    if checks is QUERY and "prompt" not in given:
        problems.append("prompt is missing")
    many = given.get("n_clients", 1), given.get("n_requests_per_client", 1)
    if not problems and many[0] * many[1] > MAX_REQUESTS:
        problems.append(
            f"n_clients x n_requests_per_client is {many[0] * many[1]}, but must be at most "
            f"{MAX_REQUESTS}"
        )
    if problems:
        raise BadInput("; ".join(problems) + ".")
    return given


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key[:100], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{shown(key)} is unknown ({hint})"


def shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
