"""Ollama's own API as the engine uses it: a request's bytes, and what the lines of an answer say.

A chunk of the stream is not a token: it may carry several or, where a character is not complete
yet, none. So tokens are counted by the server, in the last chunk, and never by chunks.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import Any

from loadgen.options import Options, Replica
from loadgen.schedule import Planned

_NS = 1e-9


@dataclass(slots=True)
class Answer:
    """What the stream of one request said. Times are time.perf_counter() seconds.

    `chunks`: arrival of each chunk with text. `end`: arrival of the final chunk. Durations are
    the server's own, in seconds; None where it did not say.
    """

    chunks: array[float] = field(default_factory=lambda: array("d"))
    end: float | None = None
    output_tokens: int | None = None
    input_tokens: int | None = None
    load: float | None = None
    prefill: float | None = None
    decode: float | None = None
    total: float | None = None
    error: str | None = None

    def line(self, line: bytes, at: float) -> None:
        """Take in one line of the stream, complete at `at`. Raises ValueError: not Ollama's."""
        chunk = json.loads(line)
        if not isinstance(chunk, dict):
            raise ValueError("a line of the stream is no object")
        if chunk.get("response") or chunk.get("thinking"):
            self.chunks.append(at)
        if chunk.get("done"):
            self._finish(chunk, at)
        elif "error" in chunk:
            self.error = str(chunk["error"])

    def _finish(self, chunk: dict[str, Any], at: float) -> None:
        self.end = at
        self.output_tokens = _count(chunk, "eval_count")
        self.input_tokens = _count(chunk, "prompt_eval_count")
        self.load = _seconds(chunk, "load_duration")
        self.prefill = _seconds(chunk, "prompt_eval_duration")
        self.decode = _seconds(chunk, "eval_duration")
        self.total = _seconds(chunk, "total_duration")


def _count(chunk: dict[str, Any], key: str) -> int | None:
    value = chunk.get(key)
    return value if isinstance(value, int) else None


def _seconds(chunk: dict[str, Any], key: str) -> float | None:
    value = chunk.get(key)
    return value * _NS if isinstance(value, (int, float)) else None


def error_text(body: bytes) -> str:
    """Ollama's own words in the body of an HTTP error, at most 300 characters."""
    text = body.decode("utf-8", "replace").strip()
    try:
        text = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return text[:300]


class Requests:
    """The bytes of each planned request. All but its seed is written once per prompt."""

    def __init__(self, options: Options) -> None:
        given = {} if options.num_predict is None else {"num_predict": options.num_predict}
        tail = json.dumps({"stream": True, "options": {**given, "seed": 0}})
        self._tail = tail[1:-3].encode()  # without the brace before it and the `0}}` after it
        head = json.dumps({"model": options.model})[:-1]
        self._prompts = [f'{head}, "prompt": {json.dumps(p)}, '.encode() for p in options.prompts]
        self._heads = [_head(replica) for replica in options.replicas]

    def bytes_of(self, planned: Planned, replica: int) -> bytes:
        """The whole HTTP request to a replica, an index into the options."""
        body = b"%b%b%d}}" % (self._prompts[planned.prompt], self._tail, planned.seed)
        return b"%b%d\r\n\r\n%b" % (self._heads[replica], len(body), body)


def _head(replica: Replica) -> bytes:
    host = f"[{replica.host}]" if ":" in replica.host else replica.host
    return (
        f"POST /api/generate HTTP/1.1\r\nHost: {host}:{replica.port}\r\n"
        "User-Agent: loadgen\r\nAccept: application/x-ndjson\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode("idna" if not host.isascii() else "ascii")
