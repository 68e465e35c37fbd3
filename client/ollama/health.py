"""What /health says: every replica by name, and whether all, some or none of them would answer.

A replica would answer if Ollama does, has the deployment's model, and did not fail when it was
last asked to use it. What is known of that may be old (client/ollama/evidence.py): then a token is
asked for, in the background, and never while a benchmark runs, which it would disturb.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from client.api.answers import DEGRADED, HEALTHY, UNHEALTHY, ErrorWords, Replica
from client.errors import (
    Busy,
    ModelMissing,
    OllamaFailed,
    Refused,
    RequestError,
    TooSlow,
    Unreachable,
)
from client.ollama.evidence import Evidence, Judgement
from client.ollama.replicas import CHECKED_AT_ONCE, Replicas
from client.ollama.requests import OllamaClient
from client.ollama.streams import placement_of
from contracts.json_object import JsonObject
from engines.names import entry_of, loaded_entry
from engines.ollama import RUNNING, TAGS, VERSION, embed_body, one_token

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
        ollama: OllamaClient,
        replicas: Callable[[], Replicas],
        model: str | None,
        embedding_model: str | None = None,
        measuring: Callable[[], bool] = lambda: False,
        works: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`measuring`: whether a benchmark runs; `works`: whether an address is at requests that
        were not queries of ours."""
        self._ollama = ollama
        self._replicas = replicas
        self._model = model
        self._embedding_model = embedding_model
        self._measuring, self._works = measuring, works
        self.answers = Evidence(self._ask_for_token, self._is_busy)
        self.vectors = Evidence(self._ask_for_vector, self._is_busy)
        self._digests: dict[str, object] = {}  # as they were when first seen

    def probe(self, addresses: Sequence[str]) -> HealthReport:
        """Ask all replicas now; eject those that would not answer, readmit those that would."""
        with ThreadPoolExecutor(min(CHECKED_AT_ONCE, len(addresses))) as pool:
            seen = list(pool.map(self._see, addresses))
        replicas = [one.replica for one in seen]
        problem = next((one.embedding_problem for one in seen if one.embedding_problem), None)
        if not any(replica.ok for replica in replicas):
            return HealthReport(UNHEALTHY, replicas, problem, _nobody(seen))
        well = all(replica.ok and replica.reason is None for replica in replicas)
        return HealthReport(HEALTHY if well else DEGRADED, replicas, problem)

    def check(self, address: str) -> None:
        """Return if it would answer a query. Raises RequestError if it would not."""
        tags = self._ollama.get(address, TAGS)
        if self._model is not None and entry_of(tags, self._model) is None:
            raise ModelMissing(_lacks(address, self._model))
        if not self.answers.judgement(address).ok:
            judgement = self.answers.ask(address)
            if not judgement.ok:
                raise OllamaFailed(str(judgement.reason))

    def failed(self, address: str, error: RequestError, evidence: Evidence | None) -> None:
        """Note that a request has failed; `evidence` is that of its model, if we keep any."""
        ours = not isinstance(error, (Unreachable, Busy)) and (
            not isinstance(error, Refused) or isinstance(error, ModelMissing)
        )
        if ours and evidence is not None:
            evidence.failed(address, str(error))
        if isinstance(error, (Unreachable, TooSlow)) or (ours and evidence is self.answers):
            self._replicas().eject(address)

    def answered(self, address: str, evidence: Evidence | None) -> None:
        """Note that a request was answered, in part or wholly."""
        if evidence is not None:
            evidence.answered(address)
        if self.answers.judgement(address).ok:
            self._replicas().readmit(address)

    # --- one replica ---

    def _see(self, address: str) -> _ReplicaReport:
        """What it says of itself, and what is thought of it."""
        try:
            seen = self._ask(address)
        except RequestError as error:
            unknown = self._shown(address, Judgement(False, str(error)), **_UNKNOWN)
            seen = _ReplicaReport(unknown, None, error.kind)
        replicas = self._replicas()
        (replicas.readmit if seen.replica.ok else replicas.eject)(address)
        return seen

    def _ask(self, address: str) -> _ReplicaReport:
        version, tags, running = (
            self._ollama.get(address, path) for path in (VERSION, TAGS, RUNNING)
        )
        model = self._model
        listed = entry_of(tags, model) if model else None
        loaded = loaded_entry(tags, running, model) if model else None
        judgement = self._judge(address, listed, loaded) if model else Judgement(True, None)
        shown = self._shown(
            address,
            judgement,
            version=version.get("version"),
            model=listed and listed.get("name"),
            digest=listed and listed.get("digest"),
            available=listed is not None,
            loaded=loaded is not None,
            placement=loaded and placement_of(loaded),
        )
        return _ReplicaReport(shown, self._embedding_problem(address, tags))

    def _shown(self, address: str, judgement: Judgement, **known: Any) -> Replica:
        outstanding = self._replicas().outstanding(address)
        return Replica(
            address=address,
            ok=judgement.ok,
            reason=judgement.reason,
            **known,
            outstanding=outstanding,
        )

    def _judge(
        self, address: str, listed: JsonObject | None, loaded: JsonObject | None
    ) -> Judgement:
        if listed is None:
            return Judgement(False, _lacks(address, str(self._model)))
        if (loaded or not self.answers.judgement(address).ok) and not self._measuring():
            self.answers.refresh(address, PATIENCE_S)
        judgement = self.answers.judgement(address)
        if not judgement.ok:
            return judgement
        if loaded is None:
            return self._would_load(address)
        if (first := self._digests.setdefault(address, listed.get("digest"))) != (
            now := listed.get("digest")
        ):
            return Judgement(True, f"{_at(address)}: {self._model} was replaced: its digest was "
                           f"{first}, and is {now}.")  # fmt: skip
        return Judgement(True, judgement.reason and f"{_at(address)}: {judgement.reason}.")

    def _would_load(self, address: str) -> Judgement:
        """Of a model that is on disk: Ollama shows only what it can read."""
        try:
            self._ollama.show(address, json.dumps({"model": self._model}).encode())
        except RequestError as error:
            return Judgement(False, str(error))
        words = f"{self._model} is not in memory: the next query waits until it is loaded"
        return Judgement(True, f"{_at(address)}: {words}.")

    def _embedding_problem(self, address: str, tags: JsonObject) -> str | None:
        if self._embedding_model is None:
            return None
        if entry_of(tags, self._embedding_model) is None:
            return _lacks(address, self._embedding_model)
        if not self.vectors.judgement(address).ok and not self._measuring():
            self.vectors.refresh(address, PATIENCE_S)
        judgement = self.vectors.judgement(address)
        return None if judgement.ok else judgement.reason

    # --- asking ---

    def _ask_for_token(self, address: str, timeout_s: float) -> object:
        body = json.dumps(one_token(str(self._model))).encode()
        return self._ollama.generate(address, body, timeout_s)

    def _ask_for_vector(self, address: str, timeout_s: float) -> object:
        body = json.dumps(embed_body(str(self._embedding_model), ["Hi"], False)).encode()
        return self._ollama.embed(address, body, timeout_s)

    def _is_busy(self, address: str) -> bool:
        return self._replicas().outstanding(address) > 0 or self._works(address)


def _nobody(seen: Sequence[_ReplicaReport]) -> ErrorWords:
    first = seen[0]
    if len(seen) == 1:
        return ErrorWords(type=first.kind, message=first.replica.reason)
    words = f"None of the {len(seen)} replicas of Ollama would answer a query. The first: "
    return ErrorWords(type=Unreachable.kind, message=f"{words}{first.replica.reason}")


def _at(address: str) -> str:
    return f"Ollama at {address}"


def _lacks(address: str, model: str) -> str:
    return (
        f"{_at(address)} does not have the model {model} any more: somebody has deleted it, there "
        "or on disk; deploy again."
    )
