"""What Ollama's answers say, whichever API they are translated to."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from client.compatible.errors import EngineFailed
from contracts.json_object import JsonObject
from engines.json_values import count_of, part_of, text_of
from engines.ollama import error_of, input_tokens_of


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool."""

    id: str
    name: str
    arguments: JsonObject


def checked(answer: JsonObject) -> JsonObject:
    """Return a line, or an answer. Raises EngineFailed if it says that the engine failed."""
    error = error_of(answer)
    if error is not None:
        raise EngineFailed(f"The engine failed: {error[:500]}")
    return answer


def usage_of(final: JsonObject) -> JsonObject:
    """Return the counts of tokens of a final line or whole answer, in the words of a chat."""
    read, written = read_and_written(final)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def read_and_written(final: JsonObject) -> tuple[int, int]:
    """Return the tokens of the prompt and of the answer."""
    return input_tokens_of(final) or 0, count_of(final, "eval_count") or 0


def is_cut(final: JsonObject) -> bool:
    """Return whether the answer ended at its limit, or where the context does."""
    return text_of(final, "done_reason") == "length"


def texts_of(message: JsonObject) -> tuple[str, str]:
    """Return what the model thinks, and what it says."""
    return text_of(message, "thinking") or "", text_of(message, "content") or ""


def calls_of(message: JsonObject) -> Iterator[Call]:
    """Yield the calls of tools; what has no id is given one."""
    for call in objects_of(message, "tool_calls"):
        function = part_of(call, "function")
        number = text_of(call, "id") or f"call_{uuid.uuid4().hex[:24]}"
        yield Call(number, text_of(function, "name") or "", part_of(function, "arguments"))


def objects_of(of: JsonObject, key: str) -> list[JsonObject]:
    """Return the objects of a list; none if there is no such list."""
    listed = of.get(key)
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
