"""Reading what engines answer: JSON objects, streams of lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator

from client.api.answers import Error
from client.engine_apis.interface import EngineApi
from client.errors import OllamaFailed, RequestError, TooSlow
from client.ollama.callers import CallerGone
from client.ollama.responses import Response
from contracts.json_object import JsonObject
from engines.http.answers import MOST_HELD, TOO_LONG, BadAnswer
from engines.http.sockets import in_words, is_our_limit
from engines.ollama import error_in, is_whole


def json_object(data: bytes, what: str) -> JsonObject:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OllamaFailed(f"{what} is not JSON: {data[:100]!r}.") from error
    if not isinstance(value, dict):
        raise OllamaFailed(f"{what} is no JSON object: {data[:100]!r}.")
    return value


def lines(answer: Response, api: EngineApi, deadline: float) -> Generator[bytes, None, None]:
    """Yield whole lines, as Ollama has them, as they arrive, each piece of the network at once; at
    the end an error's line if the stream broke off, failed, or took longer than `deadline`
    (time.monotonic). Raises CallerGone."""
    last = b""
    failure: RequestError | None = None
    try:
        for whole in _whole_lines(api.lines(answer.pieces()), api.name):
            if whole:
                last = whole.rstrip().rpartition(b"\n")[2] or last
                failure = _failure_in(whole, api.name) or failure
                yield whole
            if time.monotonic() > deadline:
                failure = TooSlow("The answer took too long.")
                break
    except CallerGone:
        raise
    except OSError as error:
        failure = OllamaFailed(f"The stream broke off: {in_words(error)}.")
        if is_our_limit(error):
            failure = TooSlow(f"{api.name} sent nothing for too long.")
    finally:
        answer.close()
    if failure is None and not is_whole(last):
        failure = OllamaFailed("The stream ended without its final chunk.")
    if failure is not None:
        yield json.dumps(Error(error=failure.words).as_json()).encode() + b"\n"


def _whole_lines(pieces: Iterable[bytes], engine: str) -> Iterator[bytes]:
    """For each piece the lines that are whole with it, empty if it has the end of none; then
    what has no end, given one. Raises BadAnswer for a line that does not end."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        whole, newline, rest = piece.rpartition(b"\n")
        if newline:
            yield b"".join((*held, whole, newline))
            held, size = [], 0
        else:
            yield b""
        held.append(rest)
        size += len(rest)
        if size > MOST_HELD:
            raise BadAnswer(f"{engine} {TOO_LONG} of a line")
    if size:
        yield b"".join((*held, b"\n"))


class Stream(Iterator[bytes]):
    """The lines of an answer under way, of a replica; `close` at its end or before."""

    def __init__(
        self,
        answer: Response,
        parts: Generator[bytes, None, None],
        on_piece: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        """`on_piece` is told each piece as it comes, `on_end` the end, once."""
        self._answer = answer
        self._parts = parts
        self._on_piece = on_piece
        self._on_end: Callable[[], None] | None = on_end
        self.replica, self.retried = answer.replica, answer.retried
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
        self._on_piece(piece)
        return piece

    def close(self) -> None:
        """Close it; also if no line has been read yet, and any number of times."""
        self._parts.close()
        self._answer.close()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


def _failure_in(lines: bytes, engine: str) -> RequestError | None:
    error = error_in(lines)
    return None if error is None else OllamaFailed(f"{engine} failed: {error[:500]}")
