"""What Ollama's API would say of an answer that came by OpenAI's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from contracts.generation import Generation
from contracts.json_object import JsonObject
from engines.http.answers import MOST_HELD, TOO_LONG, BadAnswer
from engines.json_values import count_of, number_of, object_of, part_of, text_of
from engines.openai import DONE, FAILED, event_of, failure_of

#: Ollama's counts, by what they are called in `usage`; and its durations, by llama.cpp's `timings`.
_COUNTS = {"prompt_eval_count": "prompt_tokens", "eval_count": "completion_tokens"}
_DURATIONS = {"prompt_eval_duration": "prompt_ms", "eval_duration": "predicted_ms"}
_NS_PER_MS = 1_000_000
#: The texts of Ollama's lines.
_TEXTS = ("response", "thinking")
#: Under these keys stands what a model thinks.
_THOUGHTS = ("reasoning_content", "reasoning")


def whole_answer(stream: bytes) -> bytes:
    """Return the answer that a whole stream of events brings, or the error with which it ends; what
    is no stream, as it is."""
    try:
        lines = [object_of(line) for line in b"".join(ollama_lines([stream])).splitlines()]
    except BadAnswer:
        return stream
    failed = [line for line in lines if "error" in line]
    if failed or not lines:
        return _line(failed[0]) if failed else stream
    texts = {key: "".join(str(line.get(key, "")) for line in lines) for key in _TEXTS}
    return _line({**lines[-1], **{key: text for key, text in texts.items() if text}})


def ollama_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream of events, those of each piece at once. Raises BadAnswer for what
    is no such stream."""
    lines, rest = _Lines(), b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > MOST_HELD:
            raise BadAnswer(f"it {TOO_LONG} of a line")
        yield b"".join(map(lines.read, whole))
    if rest:
        yield lines.read(rest)


class _Lines:
    """Makes Ollama's lines of those of one stream of events; the last one is made of what came in
    several, since the counts come after the reason of the end."""

    def __init__(self) -> None:
        self._parsed = Generation()
        self._heading: JsonObject = {"model": "", "created_at": ""}
        self._final: dict[str, object] = {}

    def read(self, line: bytes) -> bytes:
        """Return what a line brings, given its end. Raises BadAnswer."""
        try:
            event = event_of(self._parsed, line.rstrip(b"\r"))
        except (ValueError, RecursionError) as error:
            raise BadAnswer("what came is no stream of the API") from error
        if event is DONE:
            return _line({**self._heading, "response": "", "done": True, **self._final})
        return self._made(event) if isinstance(event, dict) else b""

    def _made(self, event: JsonObject) -> bytes:
        choice = _choice(event)
        failure = failure_of(event, None) or _failure_of(choice)
        if failure is not None:
            return _line({"error": failure})
        self._heading = _heading(event)
        self._final |= {**_reason(choice), **_counts(event)}
        said = _said(part_of(choice, "delta"))
        if not said:
            return b""
        return _line({**self._heading, "response": "", **said, "done": False})


def _line(value: JsonObject) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _choice(answer: JsonObject) -> JsonObject:
    """The one that was asked for."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _heading(answer: JsonObject) -> JsonObject:
    now = datetime.now(timezone.utc).isoformat()
    return {"model": text_of(answer, "model") or "", "created_at": now}


def _said(message: JsonObject) -> JsonObject:
    """The text of an answer, or of a piece of it, and what the model thinks."""
    thought = next((text for key in _THOUGHTS if (text := text_of(message, key))), "")
    found = {"response": text_of(message, "content"), "thinking": thought}
    return {key: text for key, text in found.items() if text}


def _reason(choice: JsonObject) -> JsonObject:
    reason = text_of(choice, "finish_reason")
    return {"done_reason": reason} if reason else {}


def _failure_of(choice: JsonObject) -> str | None:
    reason = text_of(choice, "finish_reason")
    return f"the answer ended with {reason!r}" if reason in FAILED else None


def _counts(answer: JsonObject) -> JsonObject:
    """Counts and, in nanoseconds, durations, as far as they are told."""
    usage, timings = part_of(answer, "usage"), part_of(answer, "timings")
    counts = {key: count_of(usage, name) for key, name in _COUNTS.items()}
    told = {key: number_of(timings, name) for key, name in _DURATIONS.items()}
    durations = {key: None if ms is None else round(ms * _NS_PER_MS) for key, ms in told.items()}
    return {key: value for key, value in {**counts, **durations}.items() if value is not None}
