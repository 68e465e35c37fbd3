"""What /health says: every replica by name, and whether all, some or none of them would answer.

A replica would answer if its engine does, has the deployment's model, and did not fail when it was
last asked to use it. What is known of that may be old (client/ollama/evidence.py): then a token is
asked for, in the background, and never while a benchmark runs, which it would disturb.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from client.api.answers import DEGRADED, HEALTHY, UNHEALTHY, ErrorWords, Replica
from client.engine_apis.interface import EngineApi, ModelState
from client.errors import (
    BadInput,
    Busy,
    LoadsModel,
    ModelMissing,
    OllamaFailed,
    Refused,
    RequestError,
    Unreachable,
)
from client.ollama.evidence import Evidence, Judgement
from client.ollama.replicas import CHECKED_AT_ONCE, Replicas
from client.ollama.requests import ReplicaClient
from engines.engine import Get
from engines.ollama import embed_body

#: For so long /health waits for a token: an idle replica has it by then, or is slow.
PATIENCE_S = 1.0

# Of a replica that does not answer nothing is known.
_UNKNOWN = dict.fromkeys(("version", "model", "digest", "available", "loaded", "placement"))


@dataclass(frozen=True)
class _ReplicaReport:
    """A replica as it is shown, what is wrong with its embeddings, and the kind of error that it
    is where it would not answer."""

    replica: Replica
    embedding_problem: str | None
    kind: str = OllamaFailed.kind


@dataclass(frozen=True)
class HealthReport:
    """What all replicas come to. `embedding_problem`: of the first that has one; `error`: if no
    query would be answered."""

    status: str
    replicas: Sequence[Replica]
    embedding_problem: str | None
    error: ErrorWords | None = None


class HealthChecker:
    """Judges the replicas by what they say and by what became of the queries, for any thread."""

    def __init__(
        self,
        client: ReplicaClient,
        api: EngineApi,
        replicas: Callable[[], Replicas],
        model: str | None,
        embedding_model: str | None = None,
        measuring: Callable[[], bool] = lambda: False,
    ) -> None:
        """`measuring`: whether a benchmark runs."""
        self._client, self._api = client, api
        self._replicas = replicas
        self._model = model
        self._embedding_model = embedding_model
        self._measuring = measuring
        self.answers = Evidence(self._ask_for_token, self._is_busy)
        self.vectors = Evidence(self._ask_for_vector, self._is_busy)
        self._digests: dict[str, object] = {}  # as they were when first seen

    def probe(self, addresses: Sequence[str]) -> HealthReport:
        """Ask all replicas now; eject those that answer, but not with the model, and readmit those
        that would."""
        outstanding, down = self._replicas().outstanding_and_down()
        with ThreadPoolExecutor(min(CHECKED_AT_ONCE, len(addresses))) as pool:
            seen = list(pool.map(lambda at: self._see(at, outstanding[at]), addresses))
        seen = [self._down(one) if one.replica.address in down else one for one in seen]
        replicas = [one.replica for one in seen]
        problem = next((one.embedding_problem for one in seen if one.embedding_problem), None)
        if not any(replica.ok for replica in replicas):
            return HealthReport(UNHEALTHY, replicas, problem, _nobody(seen, self._api.name))
        well = all(replica.ok and replica.reason is None for replica in replicas)
        return HealthReport(HEALTHY if well else DEGRADED, replicas, problem)

    def glance(self, address: str) -> tuple[Judgement, ModelState | None]:
        """Return what is thought of a replica, and what it says of itself, without asking it for a
        token; None if it does not answer."""
        try:
            seen = self._api.state(self._get_of(address), self._model)
        except RequestError as error:
            return Judgement(False, str(error)), None
        if self._model and not seen.listed:
            return Judgement(False, self._lacks(address, self._model)), seen
        known = self.answers.judgement(address)
        if known.ok and self._model and not seen.loaded:
            return Judgement(True, self._unloaded), seen
        return known, seen

    def check(self, address: str) -> None:
        """Return if it would answer a query. Raises RequestError if it would not."""
        listed = self._api.has(self._get_of(address), self._model or "")
        if self._model is not None and not listed:
            raise ModelMissing(self._lacks(address, self._model))
        if not self.answers.judgement(address).ok:
            judgement = self.answers.ask(address)
            if not judgement.ok:
                raise OllamaFailed(str(judgement.reason))

    def failed(self, address: str, error: RequestError, evidence: Evidence | None) -> bool:
        """Note that a request has failed; `evidence` is that of its model, if we keep any. Return
        whether others are to be asked in its place."""
        ours = not isinstance(error, (BadInput, Unreachable, Busy)) and (
            not isinstance(error, Refused) or isinstance(error, ModelMissing)
        )
        if ours and evidence is not None:
            evidence.failed(address, str(error))
        ejects = isinstance(error, LoadsModel) or (ours and evidence is self.answers)
        return ejects and self._replicas().eject(address)

    def answered(self, address: str, evidence: Evidence | None) -> None:
        """Note that a request was answered, in part or wholly."""
        if evidence is not None:
            evidence.answered(address)
        if self.answers.judgement(address).ok:
            self._replicas().readmit(address)

    # --- one replica ---

    def _see(self, address: str, outstanding: int) -> _ReplicaReport:
        """What it says of itself, and what is thought of it."""
        try:
            seen = self._ask(address, outstanding)
        except RequestError as error:
            judgement = Judgement(False, str(error))
            unknown = self._shown(address, judgement, outstanding=outstanding, **_UNKNOWN)
            return _ReplicaReport(unknown, None, error.kind)  # the door sees that itself
        replicas = self._replicas()
        (replicas.readmit if seen.replica.ok else replicas.eject)(address)
        return seen

    def _down(self, seen: _ReplicaReport) -> _ReplicaReport:
        """Of one to which the door sends nothing, whatever it has answered us."""
        if not seen.replica.ok:
            return seen
        words = f"{self._at(seen.replica.address)} has not answered the door"
        shown = seen.replica.model_copy(update={"ok": False, "reason": f"{words}."})
        return _ReplicaReport(shown, seen.embedding_problem, Unreachable.kind)

    def _ask(self, address: str, outstanding: int) -> _ReplicaReport:
        seen = self._api.state(self._get_of(address), self._model)
        busy = outstanding > 0
        judgement = self._judge(address, busy, seen) if self._model else Judgement(True, None)
        shown = self._shown(
            address,
            judgement,
            version=seen.version,
            model=seen.name,
            digest=seen.digest,
            available=seen.listed,
            loaded=seen.loaded,
            placement=seen.placement,
            outstanding=outstanding,
        )
        return _ReplicaReport(shown, self._embedding_problem(address, busy))

    def _shown(self, address: str, judgement: Judgement, **known: Any) -> Replica:
        return Replica(address=address, ok=judgement.ok, reason=judgement.reason, **known)

    def _judge(self, address: str, busy: bool, seen: ModelState) -> Judgement:
        if not seen.listed:
            return Judgement(False, self._lacks(address, str(self._model)))
        if (seen.loaded or not self.answers.judgement(address).ok) and not self._measuring():
            self.answers.refresh(address, busy, PATIENCE_S)
        judgement = self.answers.judgement(address)
        if not judgement.ok:
            return judgement
        if not seen.loaded:
            return self._would_load(address)
        at, first = self._at(address), self._digests.setdefault(address, seen.digest)
        if first != seen.digest:
            return Judgement(True, f"{at}: {self._model} was replaced: its digest was {first}, and "
                           f"is {seen.digest}.")  # fmt: skip
        return Judgement(True, judgement.reason and f"{at}: {judgement.reason}.")

    def _would_load(self, address: str) -> Judgement:
        """Of a model that is on disk alone."""
        try:
            self._api.check_loads(partial(self._client.post, address), str(self._model))
        except RequestError as error:
            return Judgement(False, str(error))
        return Judgement(True, f"{self._at(address)}: {self._unloaded}.")

    @property
    def _unloaded(self) -> str:
        return f"{self._model} is not in memory: the next query waits until it is loaded"

    def _embedding_problem(self, address: str, busy: bool) -> str | None:
        if self._embedding_model is None:
            return None
        if not self._api.has(self._get_of(address), self._embedding_model):
            return self._lacks(address, self._embedding_model)
        if not self.vectors.judgement(address).ok and not self._measuring():
            self.vectors.refresh(address, busy, PATIENCE_S)
        judgement = self.vectors.judgement(address)
        return None if judgement.ok else judgement.reason

    # --- words ---

    def _at(self, address: str) -> str:
        return f"{self._api.name} at {address}"

    def _lacks(self, address: str, model: str) -> str:
        return f"{self._at(address)} {self._api.lacks(model)}"

    # --- asking ---

    def _get_of(self, address: str) -> Get:
        return partial(self._client.get, address)

    def _ask_for_token(self, address: str, timeout_s: float) -> object:
        body = json.dumps(self._api.one_token(str(self._model))).encode()
        return self._client.generate(address, body, timeout_s)

    def _ask_for_vector(self, address: str, timeout_s: float) -> object:
        body = json.dumps(embed_body(str(self._embedding_model), ["Hi"], False)).encode()
        return self._client.embed(address, body, timeout_s)

    def _is_busy(self, address: str) -> bool:
        return self._replicas().outstanding()[address] > 0


def _nobody(seen: Sequence[_ReplicaReport], engine: str) -> ErrorWords:
    first = seen[0]
    if len(seen) == 1:
        return ErrorWords(type=first.kind, message=first.replica.reason)
    words = f"None of the {len(seen)} replicas of {engine} would answer a query. The first: "
    return ErrorWords(type=Unreachable.kind, message=f"{words}{first.replica.reason}")
