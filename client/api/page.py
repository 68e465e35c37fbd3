"""Writes docs/api.md, from what the service is: `python3 -m client.api.page`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue

from client.api import batches_page, clients_page, engines_page, openapi
from client.api.bodies import BenchmarkRequest, Login, Points, Query, Search
from client.api.compatible_page import section
from client.api.json_body import MAX_DEPTH
from client.errors import RequestError
from contracts.files import PROJECT
from contracts.knobs import Load, value_words
from contracts.validation import must_be
from retrieval.bounds import MAX_BODY_BYTES

PAGE = PROJECT / "docs" / "api.md"

_INTRO = f"""# The client service's HTTP API

`CLIENT` stands for the address that orch prints, that `--status` shows and that
`output/client_ip_<jobid>.txt` holds. Each request carries the deployment's token, which the
examples leave out: `curl -H @output/deployments/ID/user.header …`; without it the answer is 401
(`unauthorized`; [who reaches what](security.md)). If `http_proxy` is set, give curl
`--noproxy '*'`. The same for programs: `CLIENT/openapi.json`. This page is generated from
`client/` by `python3 -m client.api.page`.

A body is a JSON object of at most {MAX_BODY_BYTES:,} bytes and {MAX_DEPTH} levels, sent with
`Content-Type: application/json`. Unknown keys are errors; null counts as not given. All times are
seconds. More keys may come in answers; those below stay. A request's first line has at most 4,000
bytes, a field of its head 8,000, all of the head 15,000: what is longer may be 400 or 431, in HTML,
since nothing here has read it.

Whoever goes before the end of an answer frees the engine, by each API: what waits its turn at the
door is never asked, and what is being written ends at once. While a prompt is read, Ollama is told,
but reads it to its end all the same
([its issue 11889](https://github.com/ollama/ollama/issues/11889)); the next one has the slot after
that. A benchmark goes on ([below](#post-benchmark)). Who has ended his side of the connection alone
(`shutdown`, `nc -N`) is taken for gone, since nothing tells the two apart: he gets 400, or 503 if
he waits his turn, and a stream breaks off. No common HTTP client does that.
"""

#: Each of them is run by a test, in this order.
_EXAMPLES: Mapping[str, Sequence[str]] = {
    "health": ["curl -s CLIENT/health"],
    "slots": ["curl -s CLIENT/slots"],
    "state": ["curl -s CLIENT/state"],
    "events": ["curl -sN --max-time 3 CLIENT/events"],
    "query": [
        "curl -s CLIENT/query -H 'Content-Type: application/json' \\",
        """     -d '{"prompt": "Why is the sky blue?", "options": {"num_predict": 50}}\'""",
        "curl -sN CLIENT/query -H 'Content-Type: application/json' \\",
        """     -d '{"prompt": "Why is the sky blue?", "stream": true}\'""",
    ],
    "search": [
        "curl -s CLIENT/search -H 'Content-Type: application/json' \\",
        """     -d '{"query": "How is a deployment stopped?", "top_k": 3}\'""",
    ],
    "points": [
        "curl -s CLIENT/points -H 'Content-Type: application/json' \\",
        """     -d '{"source": "a.md", "version": "1", "count": 1,""",
        """          "chunks": [{"position": 0, "text": "A."}]}'""",
    ],
    "startBenchmark": [
        "curl -s CLIENT/benchmark -H 'Content-Type: application/json' \\",
        """     -d '{"n_clients": 4, "n_requests_per_client": 8, "num_predict": 16}\'""",
        "curl -s CLIENT/benchmark -H 'Content-Type: application/json' \\",
        """     -d '{"id": "night-1", "wait": false, "rate": 5, "duration_seconds": 600}\'""",
    ],
    "showBenchmark": ["curl -s CLIENT/benchmark/night-1"],
    "cancelBenchmark": ["curl -s -X DELETE CLIENT/benchmark/night-1"],
    "loginPlace": ["curl -s CLIENT/login"],
    "login": ["python3 orch.py --login CLIENT"],
    "makeLink": ["python3 orch.py --link"],
    "metrics": ["curl -s CLIENT/metrics"],
    "openapi": ["curl -s CLIENT/openapi.json"],
}
_BODIES: Mapping[str, type[BaseModel]] = {
    "query": Query,
    "search": Search,
    "points": Points,
    "startBenchmark": BenchmarkRequest,
    "login": Login,
}
_WORDS = {"string": "text", "integer": "whole number"}


def page() -> str:
    """Return the text of docs/api.md."""
    document = openapi.document()
    lines = [_INTRO]
    for path, route in document["paths"].items():
        for method in ("get", "post", "delete"):
            if method in route:
                lines += [*_operation(f"{method.upper()} {path}", route[method]), ""]
    schemas = document["components"]["schemas"]
    lines += ["## What comes back", ""]
    for kind in openapi.ANSWERS:
        lines += [*_answer(kind.__name__, schemas[kind.__name__]), ""]
    last = (*section(), "", *batches_page.section(), "", *clients_page.section(), "")
    return "\n".join([*lines, *_errors(), "", *engines_page.section(), "", *last])


def _operation(title: str, operation: JsonSchemaValue) -> Iterator[str]:
    name = operation["operationId"]
    yield from (f"## {title}", "", operation["summary"], "")
    yield from (f"    {line}" for line in _EXAMPLES[name])
    yield ""
    if name in _BODIES:
        yield from (*_body(_BODIES[name]), "")
    rows = [
        (status, _content(found.get("content", {})), found["description"])
        for status, found in sorted(operation["responses"].items())
    ]
    yield from _table(("status", "answer", "when"), rows)


def _body(kind: type[BaseModel]) -> Iterator[str]:
    rows = [
        (
            f"`{key}`",
            f"{must_be(kind, key)}{', **required**' * field.is_required()}",
            str(field.description),
        )
        for key, field in _fields(kind).items()
    ]
    yield from _table(("key of the body", "must be", "meaning"), rows)
    if issubclass(kind, Load):
        yield ""
        yield from (f"- Not both: `{a}`, `{b}`." for a, b in kind.EXCLUSIVE)
        for pair in kind.EXCLUSIVE_VALUES:
            yield f"- Not both: {', '.join(value_words(v, f'`{v[0]}`') for v in pair)}."
        for key, others in kind.REQUIRES:
            yield f"- `{key}` goes only with {' or '.join(f'`{o}`' for o in others)}."


def _fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """First what it is for: of a load how much, of others what they do not share."""
    if issubclass(kind, Load):
        return kind.model_fields
    bases = [base for base in kind.__mro__ if issubclass(base, BaseModel)]
    own = {key: None for base in bases for key in base.__annotations__}
    return {key: kind.model_fields[key] for key in own if key in kind.model_fields}


def _answer(name: str, schema: JsonSchemaValue) -> Iterator[str]:
    yield from (f"### {name}", "")
    required = schema["required"]
    rows = [
        (
            f"`{key}`",
            f"{_type(part)}{'' if key in required else ' (or absent)'}",
            part["description"],
        )
        for key, part in schema["properties"].items()
    ]
    yield from _table(("key", "type", "meaning"), rows)


def _content(content: JsonSchemaValue) -> str:
    """What an answer may hold: schemas by name, other media by theirs."""
    return ", ".join(
        _type(media["schema"]) if kind == "application/json" else f"`{kind}`"
        for kind, media in content.items()
    )


def _type(schema: JsonSchemaValue) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    kinds: list[str] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds)


def _errors() -> Iterator[str]:
    yield from ("## Errors", "")
    yield "All have the form of [Error](#error)."
    yield "HTTP's own (404, 405, 413) are named by their words, as `method_not_allowed`."
    yield ""
    kinds = {error.kind: error for error in _descendants(RequestError)}
    rows = [
        (f"{error.status}", f"`{kind}`", str(error.__doc__))
        for kind, error in sorted(kinds.items(), key=lambda item: (item[1].status, item[0]))
    ]
    yield from _table(("status", "type", "meaning"), rows)


def _descendants(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    """The more general come last, and so stand for their kind."""
    for child in kind.__subclasses__():
        yield from (*_descendants(child), child)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
