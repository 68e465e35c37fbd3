"""What a caller is told when it fails: errors in OpenAI's shape, with its types and codes, or in
Anthropic's."""

from __future__ import annotations

import math

from contracts.json_object import JsonObject

#: The path of Anthropic's API.
MESSAGES = "/v1/messages"
#: What Anthropic calls an error, by its status; others are of the request below 500, else of us.
_ANTHROPIC = {
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

#: Seconds after which one may come again, if the engine does not say.
RETRY_AFTER_S = 1


class ApiError(Exception):
    """A sentence, the HTTP status, and what programs look at: `type`, `code`, and the key of the
    body that it is about."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param = message, param
        self.code = code or type(self).code

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it in the head of an answer."""
        return {}

    def as_json(self) -> JsonObject:
        """The body of the answer in OpenAI's shape."""
        words = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": words}

    def as_anthropic(self) -> JsonObject:
        """The same in Anthropic's shape, which has neither code nor key."""
        other = "api_error" if self.status >= 500 else "invalid_request_error"
        kind = _ANTHROPIC.get(self.status, other)
        return {"type": "error", "error": {"type": kind, "message": self.message}}

    def as_body(self, target: str) -> JsonObject:
        """The body of the answer, in the shape of the API that was asked."""
        path = target.partition("?")[0]
        anthropic = path == MESSAGES or path.startswith(f"{MESSAGES}/")
        return self.as_anthropic() if anthropic else self.as_json()


class BadRequest(ApiError):
    """The request makes no sense."""

    status, type = 400, "invalid_request_error"


class NotSupported(BadRequest):
    """It asks for what there is not here."""

    code = "unsupported_parameter"


class ContextLengthExceeded(BadRequest):
    """The prompt has more tokens than the model's context holds."""

    code = "context_length_exceeded"


class NotFound(BadRequest):
    """There is no such path."""

    status, code = 404, "unknown_url"


class ModelNotFound(BadRequest):
    """There is no such model."""

    status, code = 404, "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} does not exist here: GET /v1/models lists those "
                         "that do.", "model")  # fmt: skip


class NoSuchObject(BadRequest):
    """There is no such file, or no such batch, of this token's."""

    status, code = 404, "not_found"


class OutOfSpace(BadRequest):
    """More is kept for this token than may be: delete files that are done with."""

    code = "storage_limit_exceeded"


class InUse(BadRequest):
    """It cannot be done as things stand."""

    status, code = 409, "conflict"


class NotKept(ApiError):
    """The output directory takes no files."""

    code = "output_not_writable"


class WrongMethod(BadRequest):
    """The path is asked in another way."""

    status, code = 405, "method_not_allowed"


class TooLarge(BadRequest):
    """The body, or the head, is larger than what is taken."""

    status, code = 413, "request_too_large"


class Busy(ApiError):
    """The queue in front of the model is full (429), or there is no engine just now (503)."""

    code = "queue_full"

    def __init__(self, message: str, status: int, retry_after: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.type = "rate_limit_error" if status == 429 else "server_error"
        self._retry_after = retry_after or str(RETRY_AFTER_S)

    @property
    def headers(self) -> dict[str, str]:
        """When to come again, in seconds."""
        return {"Retry-After": self._retry_after}


class NotOffered(ApiError):
    """The deployment's engine has no such route."""

    status, type, code = 501, "invalid_request_error", "not_offered"


class EngineFailed(ApiError):
    """The engine answered with an error, or with what cannot be understood."""

    status, code = 502, "engine_error"


class EngineGone(ApiError):
    """The engine does not answer, or closed the connection."""

    status, code = 502, "engine_unreachable"


class TooSlow(ApiError):
    """The engine did not answer in time."""

    status, code = 504, "timeout"


class NoEngine(ApiError):
    """There is none yet, or it could not be begun."""

    status, code = 503, "no_engine"

    def __init__(self, message: str, again_s: float) -> None:
        super().__init__(message)
        self._again_s = max(1, math.ceil(again_s))

    @property
    def headers(self) -> dict[str, str]:
        """When to come again, in seconds."""
        return {"Retry-After": str(self._again_s)}

    def as_body(self, target: str) -> JsonObject:
        """Likewise; Ollama's API and our own have other shapes."""
        if target.startswith("/v1/"):
            return super().as_body(target)
        if target.startswith("/api/"):
            return {"error": self.message}
        return {"error": {"type": "service_unavailable", "message": self.message}}
