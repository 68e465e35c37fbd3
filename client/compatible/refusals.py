"""What the engine's refusals mean to the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from client.compatible.engine_connection import EngineConnection
from client.compatible.errors import (
    ApiError,
    BadRequest,
    Busy,
    ContextLengthExceeded,
    EngineFailed,
    ModelNotFound,
    TooSlow,
)
from client.compatible.lookups import Lookups
from engines.json_values import error_text
from engines.ollama import NO_SUCH_MODEL
from engines.tokens import estimate, says_too_long

#: What /api/chat says to a name that no model can have.
_NO_NAME = "model is required"


@dataclass(frozen=True)
class Sent:
    """What was asked of the engine: the model, how many bytes its longest text has, and the key of
    the body that has it."""

    model: str
    size: Callable[[], int]
    param: str


async def refusal(answer: EngineConnection, sent: Sent, lookups: Lookups) -> ApiError:
    """Return what a status other than 200 is to the caller."""
    words, status = answer.refusal(error_text(await answer.read(), most=500)), answer.status
    if status == NO_SUCH_MODEL or words == _NO_NAME:
        return ModelNotFound(sent.model)
    if says_too_long(words):
        return _too_long(sent, await lookups.context(sent.model))
    return by_status(answer, words)


def by_status(answer: EngineConnection, words: str) -> ApiError:
    """Return what a status means of which no more is known; `words` are the engine's."""
    status = answer.status
    if status in (429, 503):
        return Busy(f"The engine takes no more just now: {words}", status, _retry_after(answer))
    if status in (408, 504):
        return TooSlow(f"The engine did not answer in time: {words}")
    if 400 <= status < 500 and status not in (401, 403, 407):
        return BadRequest(f"The engine refuses this: {words}")
    return EngineFailed(f"The engine answered {status}: {words}")


def _retry_after(answer: EngineConnection) -> str:
    given = answer.field("retry-after")
    return given if given.isascii() and given.isdigit() else ""


def _too_long(sent: Sent, holds: int | None) -> ContextLengthExceeded:
    size = sent.size()
    tokens = estimate(size, holds)
    most = "is less than that" if holds is None else f"is {holds} tokens"
    return ContextLengthExceeded(
        f"This model's maximum context length {most}. However, {sent.param} came with about "
        f"{tokens} tokens ({size} bytes): please send less.",
        sent.param,
    )
