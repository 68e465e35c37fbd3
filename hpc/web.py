"""HTTP to our own services. Never through http_proxy: urllib3 does not look at it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from hpc.errors import OrchError

CONNECT_TIMEOUT_S = 3.0

_pool = urllib3.PoolManager(retries=False, maxsize=8)


class NoAnswer(OrchError):
    """The service could not be reached, or not in time."""

    exit_code = 4


@dataclass(frozen=True)
class Answer:
    """Status and body of an HTTP answer; `json` is the parsed body, {} where it is no object."""

    status: int
    json: dict[str, Any]
    text: str

    @property
    def error(self) -> str:
        """The service's own words about what is wrong, without a full stop."""
        error = self.json.get("error")
        if isinstance(error, dict):
            error = error.get("message")
        return str(error).rstrip(".") if error else f"HTTP {self.status} {self.text[:200]}"


def call(method: str, url: str, body: object = None, timeout_s: float = 10.0) -> Answer:
    """One request, `body` sent as JSON. Raises NoAnswer; any HTTP status is an answer."""
    timeout = urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s)
    try:
        response = _pool.request(method, url, json=body, timeout=timeout)
    except HTTPError as error:
        raise NoAnswer(f"{url} does not answer: {error}") from error
    text = response.data.decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = {}
    return Answer(response.status, parsed if isinstance(parsed, dict) else {}, text)
