"""A server that is measured, and that nobody here has started."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from client.api.answers import HEALTHY, UNHEALTHY, GivenHealth
from client.errors import BadInput, RequestError, ServerFailed, ServerNotReady
from client.settings import ServiceSettings
from contracts.errors import OrchError
from contracts.given_server import GivenServer
from engines.engine import Facts
from engines.http.asking import NoAnswer, asking
from engines.http.headers import headers_of
from engines.http.urls import parse
from engines.registry import ENGINES

#: Seconds for what it says of itself, and for a first token: a model may have to be loaded for it.
GET_S, TOKEN_S = 10.0, 300.0
#: Seconds for which an answer speaks for the ones to come, since each question costs a token; and
#: the words of one that does not answer yet.
FRESH_S, RETRY_S = 60.0, 1.0
#: How long a question waits for another one's answer.
PATIENCE_S = 5.0


class Given:
    """The server of the settings, for any thread; asked by one at a time, and seldom."""

    def __init__(self, settings: ServiceSettings, server: GivenServer) -> None:
        """Raises UsageError if the key cannot be read."""
        self.settings = settings
        self.server = server
        self._base = parse(server.url, server.api)
        headers, _ = headers_of((), self.token_file, server.api, {})
        self._ask = asking(self._base, headers, GET_S, TOKEN_S)
        self._asking = threading.Lock()
        self._found: Facts | RequestError = ServerNotReady(f"{server.url} was not asked yet.")
        self._asked_at = -FRESH_S

    @property
    def token_file(self) -> Path | None:
        """Where its key is."""
        return None if self.server.token_file is None else Path(self.server.token_file)

    def api_for(self, api: str | None) -> str:
        """Return what it speaks. Raises BadInput: `api` is another one."""
        if api not in (None, self.server.api):
            raise BadInput(f"api is {api}, but {self.server.url} speaks that of {self.server.api}.")
        return self.server.api

    # As a set of replicas it is one, which nobody chooses among: see client.metrics.State.

    def count(self) -> int:
        """Return how many it is."""
        return 1

    def ejected(self) -> int:
        """Return whether it would not answer, when it was last asked."""
        return int(isinstance(self._found, RequestError))

    def check_soon(self) -> None:
        """Return: a question would cost a token."""

    def urls(self) -> list[str]:
        """Return its one URL. Whether it answers, the warm-up of a benchmark sees."""
        return [self.server.url]

    def model_for(self, model: str | None) -> str:
        """Return `model`, or the deployment's."""
        return model or str(self.settings.model)

    def exit_sentence(self) -> str:
        """Return nothing: nobody here knows of its end."""
        return ""

    def health(self) -> tuple[GivenHealth, int]:
        """Return what is known of it, and a status of HTTP: 200 if it would answer, 503 if it does
        not yet, 502 if it refuses."""
        found = self._known()
        common = {
            "server": self._base.shown,
            "api": self.server.api,
            "model": self.settings.model,
            "deployment": self.settings.deployment,
            "job_id": self.settings.job_id,
        }
        if isinstance(found, RequestError):
            wrong = GivenHealth(status=UNHEALTHY, version=None, error=found.words, **common)
            return wrong, found.status
        return GivenHealth(status=HEALTHY, version=found.version, **common), 200

    def _known(self) -> Facts | RequestError:
        if not self._asking.acquire(timeout=PATIENCE_S):
            return ServerNotReady(f"{self._base.shown} lets a request for one token wait.")
        try:
            fresh_s = RETRY_S if isinstance(self._found, RequestError) else FRESH_S
            if time.monotonic() - self._asked_at >= fresh_s:
                self._found, self._asked_at = self._look(), time.monotonic()
            return self._found
        finally:
            self._asking.release()

    def _look(self) -> Facts | RequestError:
        engine, model = ENGINES[self.server.api], str(self.settings.model)
        try:
            found = engine.ready(self._ask, self._base.root, model, self._base.shown)
        except NoAnswer as error:
            return ServerNotReady(f"{error}.")
        except OrchError as error:  # it fails, or TLS is not to be had
            return ServerFailed(error.message)
        return ServerNotReady(f"{found}.") if isinstance(found, str) else found
