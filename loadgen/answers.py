"""The APIs that the engine speaks: a request's bytes, and what the lines of an answer say.

A chunk of a stream is not a token: it may carry several or, where a character is not complete yet,
none. So tokens are counted by the server, at the end of the stream, and never by chunks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from loadgen.options import RETRIEVAL, Options, Replica
from loadgen.records import Answer
from loadgen.schedule import Planned

_NS = 1e-9
_UNFINISHED, _NO_TEXT, _THOUGHT = b',"done":false}', b'"response":""', b'"thinking":"'
_DATA, _DONE = b"data:", b"[DONE]"

#: Takes in one line of a stream, complete at a time. Raises ValueError where it is not of the API.
TakeLine = Callable[[Answer, bytes, float], None]


def ollama_line(answer: Answer, line: bytes, at: float) -> None:
    """A line of Ollama's NDJSON (docs/api.md of Ollama, "Generate a completion").

    All lines but the last end alike, as Go's encoder writes them; they need no more than a look,
    since in JSON no text can hold a quote that is not escaped.
    """
    if line.endswith(_UNFINISHED):
        if _NO_TEXT not in line or _THOUGHT in line:
            answer.chunks.append(at)
        return
    chunk = _object(line)
    if chunk.get("response") or chunk.get("thinking"):
        answer.chunks.append(at)
    if chunk.get("done"):
        answer.end = at
        answer.output_tokens = _count(chunk, "eval_count")
        answer.input_tokens = _count(chunk, "prompt_eval_count")
        answer.load = _seconds(chunk, "load_duration")
        answer.prefill = _seconds(chunk, "prompt_eval_duration")
        answer.decode = _seconds(chunk, "eval_duration")
        answer.total = _seconds(chunk, "total_duration")
    elif "error" in chunk:
        answer.error = _words(chunk["error"])


def retrieval_line(answer: Answer, line: bytes, at: float) -> None:
    """A line of the client service's /query with retrieval (docs/retrieval.md): the first one has
    no text, but the times of what came before the model; the others are Ollama's."""
    if answer.search is None and not line.endswith(_UNFINISHED):
        timings = _object(line).get("timings")
        if isinstance(timings, dict):
            answer.embed, answer.search = _number(timings, "embed"), _number(timings, "search")
            return
    ollama_line(answer, line, at)


def openai_line(answer: Answer, line: bytes, at: float) -> None:
    """A line of OpenAI's server-sent events ("Chat completions", "Streaming"); usage comes in a
    chunk of its own before `[DONE]`. Comments and empty lines mean nothing."""
    if not line.startswith(_DATA):
        if line.startswith(b"{"):
            raise ValueError("a line of the stream is no event")
        return
    data = line[len(_DATA) :].strip()
    if data == _DONE:
        answer.end = at
        return
    chunk = _object(data)
    if "error" in chunk:
        answer.error = _words(chunk["error"])
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        if delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content"):
            answer.chunks.append(at)
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        answer.output_tokens = _count(usage, "completion_tokens")
        answer.input_tokens = _count(usage, "prompt_tokens")


TAKE_LINE: Mapping[str, TakeLine] = {
    "ollama": ollama_line,
    "openai": openai_line,
    RETRIEVAL: retrieval_line,
}
_PATHS = {"ollama": "/api/generate", "openai": "/v1/chat/completions", RETRIEVAL: "/query"}


def _object(line: bytes) -> dict[str, Any]:
    chunk = json.loads(line)
    if not isinstance(chunk, dict):
        raise ValueError("a line of the stream is no object")
    return chunk


def _count(chunk: dict[str, Any], key: str) -> int | None:
    value = chunk.get(key)
    return value if isinstance(value, int) else None


def _number(chunk: dict[str, Any], key: str) -> float | None:
    value = chunk.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def _seconds(chunk: dict[str, Any], key: str) -> float | None:
    nanoseconds = _number(chunk, key)
    return None if nanoseconds is None else nanoseconds * _NS


def _words(error: object) -> str:
    """Ollama's error is a text, OpenAI's and the client service's an object with a message."""
    return str(error.get("message", error) if isinstance(error, dict) else error)


def error_text(body: bytes) -> str:
    """The server's own words in the body of an HTTP error, at most 300 characters."""
    text = body.decode("utf-8", "replace").strip()
    try:
        text = _words(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return text[:300]


class Requests:
    """The bytes of each planned request. Its prompt and its seed alone are written each time."""

    def __init__(self, options: Options) -> None:
        self._prompts = options.prompts
        self._parts = _PARTS[options.api](options)
        self._heads = [_head(replica, options) for replica in options.replicas]

    def bytes_of(self, planned: Planned, replica: int) -> bytes:
        """The whole HTTP request to a replica, an index into the options."""
        before, after, close = self._parts
        prompt = self._prompts.encoded(planned.index)
        body = b"%b%b%b%d%b" % (before, prompt, after, planned.seed, close)
        return b"%b%d\r\n\r\n%b" % (self._heads[replica], len(body), body)


def _ollama_parts(options: Options, more: str = "") -> tuple[bytes, bytes, bytes]:
    """A body's text before the prompt, between it and the seed, and after that; `more` keys."""
    limit = {} if options.num_predict is None else {"num_predict": options.num_predict}
    given = json.dumps(limit)[1:-1] + (", " if limit else "")
    return (
        f'{{"model": {json.dumps(options.model)}, "prompt": '.encode(),
        f', "stream": true, {more}"options": {{{given}"seed": '.encode(),
        b"}}",
    )


def _retrieval_parts(options: Options) -> tuple[bytes, bytes, bytes]:
    return _ollama_parts(options, '"retrieval": true, ')


def _openai_parts(options: Options) -> tuple[bytes, bytes, bytes]:
    limit = "" if options.num_predict is None else f'"max_tokens": {options.num_predict}, '
    usage = '"stream": true, "stream_options": {"include_usage": true}'
    return (
        f'{{"model": {json.dumps(options.model)}, "messages": '
        '[{"role": "user", "content": '.encode(),
        f'}}], {usage}, {limit}"seed": '.encode(),
        b"}",
    )


_PARTS: Mapping[str, Callable[[Options], tuple[bytes, bytes, bytes]]] = {
    "ollama": _ollama_parts,
    "openai": _openai_parts,
    RETRIEVAL: _retrieval_parts,
}


def _head(replica: Replica, options: Options) -> bytes:
    host = f"[{replica.host}]" if ":" in replica.host else replica.host
    close = "" if options.reuse_connections else "Connection: close\r\n"
    return (
        f"POST {_PATHS[options.api]} HTTP/1.1\r\nHost: {host}:{replica.port}\r\n"
        f"User-Agent: loadgen\r\nAccept: */*\r\n{close}"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode("idna" if not host.isascii() else "ascii")
