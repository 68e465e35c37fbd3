"""Prompts that are read whole, or not at all: Ollama cuts one that is longer than the context, and
says nothing of it, unless `truncate` is false (api/types.go of Ollama); llama.cpp refuses it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

from client.api.bodies import Query
from client.errors import OllamaFailed, PromptTooLong, RequestError
from contracts.json_object import JsonObject
from engines.ollama import input_tokens_of, is_final, may_be_final
from engines.tokens import estimate, says_too_long, told_lengths, too_few

#: How long what a replica says of its context is believed.
FRESH_S = 60.0


def too_long(error: OllamaFailed) -> bool:
    """Return whether a text has more tokens than the model reads."""
    return says_too_long(str(error))


class Contexts:
    """The context of a model by replica, in tokens, as that says it."""

    def __init__(self, lookup: Callable[[str, str], int | None]) -> None:
        """`lookup` asks an address for that of a model. Raises RequestError."""
        self._ask = lookup
        self._known: dict[tuple[str, str], tuple[float, int | None]] = {}

    def of(self, address: str, model: str, query: Query) -> int | None:
        """Return that of a query's own options, else the replica's; None if it is not known."""
        asked = (query.options or {}).get("num_ctx")
        if isinstance(asked, int):
            return asked
        at, found = self._known.get((address, model), (-FRESH_S, None))
        if time.monotonic() - at >= FRESH_S:
            found = self._lookup(address, model)
            self._known[address, model] = time.monotonic(), found
        return found

    def _lookup(self, address: str, model: str) -> int | None:
        try:
            return self._ask(address, model)
        except RequestError:
            return None


@contextmanager
def read_whole(query: Query, context: Callable[[], int | None]) -> Iterator[None]:
    """Ask the engine within this. Raises PromptTooLong if it refuses the prompt for its length."""
    try:
        yield
    except OllamaFailed as error:
        if not too_long(error):
            raise
        size = sum(len((text or "").encode()) for text in (query.prompt, query.system))
        tokens, holds = _lengths(error, size, context)
        raise PromptTooLong(
            f"The prompt has {tokens} tokens ({size} bytes), but the model's context holds "
            f"{'fewer' if holds is None else holds}; shorten it, or raise context_length in the "
            "recipe."
        ) from error


def _lengths(
    error: OllamaFailed, size: int, context: Callable[[], int | None]
) -> tuple[str, int | None]:
    """The tokens of a prompt of so many bytes, estimated unless they are told, and of the
    context."""
    told = told_lengths(error.body)
    if told is not None:
        return told
    holds = context()
    return f"about {estimate(size, holds)}", holds


def flagged(
    parts: Generator[bytes, None, None], cut: Callable[[JsonObject], bool]
) -> Generator[bytes, None, None]:
    """Yield the lines of a stream; the final one says `truncated` if the prompt was cut."""
    with closing(parts):
        for piece in parts:
            if may_be_final(piece):
                piece = b"\n".join(_flagged(line, cut) for line in piece.split(b"\n"))
            yield piece


def _flagged(line: bytes, cut: Callable[[JsonObject], bool]) -> bytes:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):  # it is passed on as it came
        return line
    if not isinstance(answer, dict) or not is_final(answer) or not cut(answer):
        return line
    return json.dumps({**answer, "truncated": True}).encode()


def was_cut(query: Query, answer: JsonObject, context: int | None) -> bool:
    """Return whether an answer is to a prompt that was not read whole, of an Ollama that knows no
    `truncate`: it filled the context, or has fewer tokens than its words can have."""
    read = input_tokens_of(answer)
    if not read:
        return False
    fills = context is not None and read >= context
    return fills or too_few(read, len(query.prompt.split()))
