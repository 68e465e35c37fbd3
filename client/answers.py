"""Reading what Ollama answers: JSON objects, lists of models, streams of lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from client.connection import Answer
from client.errors import OllamaFailed, ServiceError, TooSlow, error_object
from loadgen.sockets import in_words, is_our_limit


def json_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OllamaFailed(f"{what} is not JSON: {data[:100]!r}.") from error
    if not isinstance(value, dict):
        raise OllamaFailed(f"{what} is no JSON object: {data[:100]!r}.")
    return value


def entry_of(answer: Mapping[str, Any], model: str | None) -> dict[str, Any] | None:
    """The entry of a model in what /api/tags or /api/ps lists; a name without a tag is :latest."""
    names = {model, f"{model}:latest"} if model else set()
    models = answer.get("models")
    entries = models if isinstance(models, list) else []
    return next((e for e in entries if isinstance(e, dict) and e.get("name") in names), None)


def placement(entry: Mapping[str, Any]) -> dict[str, Any]:
    size, on_gpu = int(entry.get("size") or 0), int(entry.get("size_vram") or 0)
    where = "cpu" if on_gpu == 0 else "gpu" if on_gpu >= size else "gpu+cpu"
    return {"size": size, "size_vram": on_gpu, "where": where}


def lines(
    answer: Answer, deadline: float, broke: Callable[[], None]
) -> Generator[bytes, None, None]:
    """Whole lines as they arrive, each piece of the network at once; at the end an error's line
    where the stream broke off, failed, or took longer than `deadline` (time.monotonic).

    `broke` is called where the network failed, not Ollama.
    """
    rest = last = b""
    failure: ServiceError | None = None
    try:
        for piece in answer.pieces():
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                last = whole.rpartition(b"\n")[2]
                yield whole + newline
            if time.monotonic() > deadline:
                failure = TooSlow("The answer took too long.")
                break
    except OSError as error:
        broke()
        failure = OllamaFailed(f"The stream broke off: {in_words(error)}.")
        if is_our_limit(error):
            failure = TooSlow("Ollama sent nothing for too long.")
    finally:
        answer.close()
    failure = failure or _unfinished(last)
    if failure is not None:
        yield json.dumps(error_object(failure.kind, str(failure))).encode() + b"\n"


class Stream(Iterator[bytes]):
    """The lines of an answer under way; `close`, at its end or before, gives its replica back."""

    def __init__(
        self,
        answer: Answer,
        parts: Generator[bytes, None, None],
        took: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        """`took` is told each piece as it comes, `ended` the end, once."""
        self._answer = answer
        self._parts = parts
        self._took = took
        self._ended: Callable[[], None] | None = ended
        self.replica = ""
        self.retried = False
        self.head = b""  # a line that goes before them all

    def __next__(self) -> bytes:
        """The next lines; at the end it closes itself."""
        if self.head:
            head, self.head = self.head, b""
            return head
        try:
            piece = next(self._parts)
        except StopIteration:
            self.close()
            raise
        self._took(piece)
        return piece

    def close(self) -> None:
        """Also where no line has been read yet, and any number of times."""
        self._parts.close()
        self._answer.close()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


def _unfinished(last: bytes) -> ServiceError | None:
    """What is wrong with a stream whose last line this is; None for the final chunk."""
    try:
        chunk = json.loads(last)
    except (ValueError, RecursionError):
        chunk = None
    if isinstance(chunk, dict) and chunk.get("done"):
        return None
    if isinstance(chunk, dict) and "error" in chunk:
        return OllamaFailed(f"Ollama failed: {str(chunk['error'])[:500]}")
    return OllamaFailed("The stream ended without its final chunk.")
