"""Asks the deployment's engine, the one for all routes of the client service."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from client.api.answers import Health, Unhealthy
from client.api.bodies import Query
from client.door import EngineServers
from client.engine_apis.interface import ModelState
from client.engine_apis.known import api_of
from client.errors import (
    BadInput,
    Died,
    LoadsModel,
    ModelMissing,
    OllamaFailed,
    RequestError,
    Unreachable,
)
from client.metrics import Queries
from client.ollama import health
from client.ollama.addresses import AddressFile
from client.ollama.evidence import Evidence, Judgement
from client.ollama.replicas import Replicas
from client.ollama.requests import DoorClient, ReplicaClient
from client.ollama.responses import Response
from client.ollama.streams import Stream, lines
from client.ollama.whole_prompts import Contexts, flagged, read_whole, was_cut
from client.self_benchmark import authority_of
from client.settings import ServiceSettings
from contracts.json_object import JsonObject
from engines.http.headers import headers_of
from engines.names import same_model
from engines.ollama import EMBED
from engines.servers.deployable import DEPLOYED

T = TypeVar("T")


class _AskOthers(Exception):
    """A replica has no model, and there are others."""


class OllamaClientService:
    """Asks the deployment's engine, through the door, which chooses among several replicas.

    A request that had to be sent more than once, since a replica did not answer or has lost its
    model, is one of which `retried` is called.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        retried: Callable[[], None] = lambda: None,
        embedding_model: str | None = None,
        measuring: Callable[[], bool] = lambda: False,
        queries: Queries | None = None,
        turn: Callable[[], str] = lambda: "",
    ) -> None:
        """Raises UsageError if the token, or the authority's certificate, cannot be read.

        `measuring`: whether a benchmark runs, which a look at the replicas must not disturb;
        `queries`: where queries are counted; `turn`: as DoorClient has it."""
        self.settings = settings
        engine = DEPLOYED[settings.engine]
        self._api = api_of(engine)
        self.addresses = AddressFile(
            settings.output, settings.engine_job, engine.service, engine.title
        )
        headers, _ = headers_of((), settings.token_file, self._api.speaks[0], {})
        authority = authority_of(settings)
        self._scheme = "http" if authority is None else "https"
        self.servers = EngineServers(self.addresses, settings.door / "commands")
        self._door = DoorClient(
            settings.door / "engines",
            self.addresses,
            self._api,
            self.servers.address_of,
            turn,
            retried,
        )
        exit_sentence = self.addresses.exit_sentence
        self._client = ReplicaClient(exit_sentence, headers, authority, self._api)
        self._contexts = Contexts(self._context)
        self._health = health.HealthChecker(
            self._client,
            self._api,
            lambda: self.replicas,
            settings.model,
            embedding_model,
            measuring,
        )
        self.replicas = Replicas(self.addresses, self.servers, self._health.check)
        self.queries = queries or Queries()
        self._retried = retried

    def query_ollama(self, query: Query, caller: socket.socket | None = None) -> JsonObject:
        """Return the answer as Ollama has it, `request_time` in seconds, `replica` and whether it
        is `retried`; and `truncated` if the prompt was not read whole, though the engine was told
        to refuse it. When the `caller` goes, the engine is told so.

        Raises NotReady, Unreachable, TooSlow, OllamaFailed, Busy, PromptTooLong, CallerGone.
        """
        started_at = time.perf_counter()

        def take(response: Response, left_s: float) -> JsonObject:
            with self._read_whole(query, response.replica):
                return self._door.generated(response, left_s)

        with self.queries.ask() as asked:
            body, evidence = self._body(query), self._evidence(query.model)
            answer, response = self._ask(self._api.path, body, take, evidence, caller)
            asked.answered(answer)
        taken, replica = time.perf_counter() - started_at, response.replica
        found = {"request_time": taken, "replica": replica, "retried": response.retried}
        found = {**answer, **found}
        return {**found, "truncated": True} if self._was_cut(query, answer, replica) else found

    def stream_ollama(self, query: Query, caller: socket.socket | None = None) -> Stream:
        """Return lines as Ollama has them, as they arrive; a failure on the way is a last line with
        an error, and `truncated` is as in query_ollama.

        It must be closed if it is not read to its end. Raises, before the first line, what
        query_ollama raises, and later CallerGone.
        """
        evidence = self._evidence(query.model)

        def take(response: Response, left_s: float) -> Stream:
            replica, until = response.replica, time.monotonic() + left_s
            with self._read_whole(query, replica):
                self._door.check(response)
            parts = lines(response, self._api, until)
            parts = flagged(parts, lambda answer: self._was_cut(query, answer, replica))

            def on_piece(piece: bytes) -> None:
                asked.read(piece)
                self._judge(replica, piece, evidence)

            return Stream(response, parts, on_piece, asked.end)

        with self.queries.ask() as asked:
            path, body = self._api.path, self._body(query)
            stream, _ = self._ask(path, body, take, evidence, caller)
            asked.streams()
        return stream

    def _read_whole(self, query: Query, address: str) -> AbstractContextManager[None]:
        return read_whole(query, lambda: self._context_of(query, address))

    def _was_cut(self, query: Query, answer: JsonObject, address: str) -> bool:
        return was_cut(query, answer, self._context_of(query, address))

    def _context_of(self, query: Query, address: str) -> int | None:
        return self._contexts.of(address, self.model_for(query.model), query)

    def _context(self, address: str, model: str) -> int | None:
        return self._api.state(partial(self._client.get, address), model).context

    def embed(self, body: bytes) -> JsonObject:
        """Return Ollama's answer of /api/embed. Raises what query_ollama raises."""
        return self._ask(EMBED, body, self._door.embedded, self._health.vectors)[0]

    def _ask(
        self,
        path: str,
        body: bytes,
        take: Callable[[Response, float], T],
        evidence: Evidence | None,
        caller: socket.socket | None = None,
    ) -> tuple[T, Response]:
        """What `take` makes of an answer and the seconds that are left, and the answer. What
        becomes of it is noted as `evidence` of its model."""
        deadline = time.monotonic() + self.settings.query_timeout_s
        self.addresses.read()
        self.servers.look()
        again = False
        while True:
            try:
                response = self._door.begin(path, body, _until(deadline), caller)
                response.retried |= again
                return self._take(response, take, _until(deadline), evidence), response
            except _AskOthers:
                again = True
            except Died:
                raise
            except Unreachable:
                # The times of an address file need not show that it has changed.
                if again or not self.servers.look(fresh=True):
                    raise
                again = True
            self._retried()

    def _take(
        self,
        response: Response,
        take: Callable[[Response, float], T],
        left_s: float,
        evidence: Evidence | None,
    ) -> T:
        """Raises _AskOthers: it has no model, which the door cannot see, and others may have it."""
        try:
            found = take(response, left_s)
        except (ModelMissing, LoadsModel) as error:
            if self._health.failed(response.replica, error, evidence) and not response.retried:
                raise _AskOthers from error
            raise
        except RequestError as error:
            self._health.failed(response.replica, error, evidence)
            raise
        self._health.answered(response.replica, evidence)
        return found

    def _judge(self, address: str, piece: bytes, evidence: Evidence | None) -> None:
        """Of lines of a stream: one that holds an error says nothing for the next query."""
        if b'{"error"' in piece:
            error = OllamaFailed(
                f"{self._api.name} at {address} failed: {piece.decode(errors='replace')}"
            )
            self._health.failed(address, error, evidence)
        elif evidence is not None:
            evidence.answered(address)

    def _evidence(self, model: str | None) -> Evidence | None:
        """Where it is noted what becomes of queries with the deployment's model."""
        ours = self.settings.model
        return self._health.answers if ours and same_model(model or ours, ours) else None

    def health(self) -> tuple[Health, str | None]:
        """Return what we reach, and what is wrong with embeddings: healthy, degraded (not all
        replicas are well), or Unhealthy (none would answer a query). Raises NotReady."""
        addresses = self.addresses.read()
        self.servers.look()  # who sees that all is well goes on to ask at the door
        found = self._health.probe(addresses)
        answer = {
            "status": found.status,
            "ollama_host": addresses[0].partition(":")[0],
            "ollama": found.replicas,
            "model": self.settings.model,
            "deployment": self.settings.deployment,
            "job_id": self.settings.job_id,
            "ollama_job": self.settings.engine_job(),
        }
        if found.error is None:
            return Health(**answer), found.embedding_problem
        return Unhealthy(**answer, error=found.error), found.embedding_problem

    def glance(self, address: str) -> tuple[Judgement, ModelState | None]:
        """Return how a replica is, as far as one sees without asking it for a token."""
        return self._health.glance(address)

    def _body(self, query: Query) -> bytes:
        return json.dumps(self._api.prepare(query, self.model_for(query.model))).encode()

    def api_for(self, api: str | None) -> str:
        """Return `api`, or the engine's own. Raises BadInput: it does not speak that."""
        speaks = self._api.speaks
        if api is not None and api not in speaks:
            raise BadInput(
                f"api is {api}, but the engine of this deployment is {self._api.name}, which "
                f"speaks {' and '.join(speaks)} alone: leave api out."
            )
        return api or speaks[0]

    def urls(self) -> list[str]:
        """Return where all replicas are, looked up again. Raises NotReady."""
        return [f"{self._scheme}://{address}" for address in self.addresses.read(fresh=True)]

    def exit_sentence(self) -> str:
        """Return a sentence that the engine's job has ended; empty if not."""
        return self.addresses.exit_sentence()

    def model_for(self, model: str | None) -> str:
        """Return `model`, or the deployment's. Raises BadInput if there is neither."""
        chosen = model or self.settings.model
        if not chosen:
            raise BadInput("model is missing, and the deployment names none.")
        return chosen


def _until(deadline: float) -> float:
    """Seconds until a time of time.monotonic, of which there is always one left."""
    return max(0.001, deadline - time.monotonic())
