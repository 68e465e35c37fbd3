"""The whole state, looked up part by part; each part is JSON, so that what has changed is seen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from client.api.answers import Sleeping
from client.batches.jobs import Batches
from client.benchmarks import Benchmarks, place_of
from client.errors import RequestError
from client.idle.sleeping import sleeping
from client.live.engines import Engines
from client.live.jobs import Jobs
from client.live.logs import Logs
from client.live.series import Recorder
from client.live.warnings import Seen, warnings_of
from client.live.work import Campaigns, batches, benchmark, reports
from client.self_benchmark import own_url
from client.settings import ServiceSettings
from contracts.job_files import chain_folder, handover_file, idle_file, user_token_file
from contracts.json_object import JsonObject
from contracts.live.copy_lines import tunnel, ways_to_ask
from contracts.live.state import Copy, Deployment, Engine, Handover, Idle, Job
from engines.json_values import object_or_empty, part_of, text_of
from engines.servers.deployable import DEPLOYED

M = TypeVar("M", bound=BaseModel)

#: Seconds between looks at what changes seldom.
_SELDOM_S = 5.0
#: What a deployment is whose engine is there only while somebody asks.
_ASLEEP = {"sleeping": "sleeping", "waking": "starting"}
_HEALTHY, _DEGRADED, _UNHEALTHY = "healthy", "degraded", "unhealthy"
#: Says how many requests wait at the door, and how many are worked on.
Queue = Callable[[], tuple[int, int]]


class Collector:
    """Looks everything up, one look after another."""

    def __init__(
        self,
        settings: ServiceSettings,
        deployment: str,
        recorder: Recorder,
        runs: Benchmarks,
        queue: Queue,
        engines: Engines | None,
        known_batches: Batches | None,
    ) -> None:
        """`engines`: None if a server is measured that has a door of its own."""
        self._settings, self._id = settings, deployment
        self._recorder, self._runs, self._queue = recorder, runs, queue
        self._engines, self._batches = engines, known_batches
        self._jobs, self._logs = Jobs(settings, deployment), Logs(settings.output)
        self._campaigns = Campaigns(settings.output, deployment)
        self._folder = settings.output / "deployments"
        self._read: dict[Path, tuple[int, JsonObject]] = {}
        self._seldom: dict[str, bytes] = {}
        self._seldom_at = -_SELDOM_S

    def count(self) -> None:
        """Note what a step of the series has beside its requests."""
        queued, in_flight = self._queue()
        totals = self._runs.totals()
        self._recorder.note(queued, in_flight + totals.in_flight, totals.finished)

    def rest(self) -> None:
        """Nobody watches."""
        self._jobs.rest()

    def look(self) -> dict[str, bytes]:
        """Return all parts but the series, by their keys."""
        record = self._object(self._folder / f"{self._id}.json")
        handover = self._model(
            handover_file(chain_folder(self._settings.output, self._id)), Handover
        )
        idle = self._model(idle_file(self._settings.output, self._id), Idle)
        ids = self._jobs.ids(record)
        self._jobs.watch(ids, handover)
        jobs = self._jobs.all(ids, handover)
        asleep = sleeping(self._settings)
        replicas = () if asleep else self._replicas(record)
        deployment = self._deployment(record, jobs, replicas, idle, asleep)
        queued, _ = self._queue()
        place = place_of(self._settings.record) if self._settings.record else None
        seen = Seen(
            jobs,
            replicas,
            handover,
            idle,
            self._settings.output,
            place == "gpu",
            queued,
            [one for one in _listed(record, "warnings") if isinstance(one, str)],
        )
        return {
            "deployment": _json(deployment),
            "jobs": _array(jobs),
            "replicas": _array(replicas),
            "benchmark": _json(benchmark(self._runs)),
            "handover": _json(handover),
            "warnings": _array(warnings_of(seen, time.time())),
            "logs": _array(self._logs.ends(ids)),
            **self._rarely(record, deployment.address),
        }

    def _rarely(self, record: JsonObject, address: str) -> dict[str, bytes]:
        if time.monotonic() - self._seldom_at >= _SELDOM_S:
            self._seldom_at = time.monotonic()
            self._seldom = {
                "batches": _array(batches(self._batches, record)),
                "campaign": _json(self._campaigns.look()),
                "copy": _array(self._copy(address)),
                "reports": _array(reports(self._runs)),
            }
        return self._seldom

    # --- parts ---

    def _replicas(self, record: JsonObject) -> tuple[Engine, ...]:
        if self._engines is None:
            return ()
        return self._engines.all(text_of(part_of(record, "loaded_model"), "quantization"))

    def _deployment(
        self,
        record: JsonObject,
        jobs: Sequence[Job],
        replicas: Sequence[Engine],
        idle: Idle | None,
        asleep: Sleeping | None,
    ) -> Deployment:
        engine = DEPLOYED[self._settings.engine].service
        states = {job.service: job for job in jobs}
        state, reason = _judged(replicas)
        if asleep is not None:
            state, reason = _ASLEEP[asleep.status], asleep.reason
        elif self._engines is None:
            state, reason = _HEALTHY, ""
        elif (own := states.get(engine)) is not None and own.state == "FAILED":
            state, reason = _UNHEALTHY, f"The {engine} job {own.id} {own.reason}"
        job = part_of(part_of(record, "recipe"), "job")
        return Deployment.model_validate(
            {
                "id": self._id,
                "name": text_of(job, "name") or self._id,
                "model": self._settings.model or "",
                "engine": self._settings.engine,
                "state": state,
                "reason": reason,
                "address": self._address(),
                "security": text_of(part_of(record, "settings"), "security") or "none",
                "idle": idle,
            }
        )

    def _address(self) -> str:
        try:
            return own_url(self._settings)
        except RequestError:
            return ""

    def _copy(self, address: str) -> list[Copy]:
        if not address:
            return []
        token = user_token_file(self._settings.output, self._id)
        queries = self._engines is not None
        native = DEPLOYED[self._settings.engine].api == "ollama"
        lines = ways_to_ask(address, token, queries=queries, native=native)
        if self._settings.login_host:
            lines.append(["tunnel", tunnel(f"$USER@{self._settings.login_host}", address)])
        return [Copy(name=name, line=line) for name, line in lines]

    # --- files ---

    def _object(self, path: Path) -> JsonObject:
        """The object of a file, read again if it has changed; {} if there is none."""
        try:
            version = path.stat().st_mtime_ns
            known = self._read.get(path)
            if known is None or known[0] != version:
                self._read[path] = known = (version, object_or_empty(path.read_bytes()))
        except OSError:
            return {}
        return known[1]

    def _model(self, path: Path, kind: type[M]) -> M | None:
        """What a file says; None if there is none, or none of that kind."""
        try:
            return kind.model_validate(self._object(path) or None)
        except ValidationError:
            return None


def _judged(replicas: Sequence[Engine]) -> tuple[str, str]:
    """How they are together, and the first reason, as client/ollama/health.py has it."""
    if not replicas:
        return "starting", "The engine has not published its address yet."
    reasons = [one.reason for one in replicas if one.reason]
    if not any(one.ok for one in replicas):
        return _UNHEALTHY, next(iter(reasons), "")
    return (_DEGRADED, reasons[0]) if reasons else (_HEALTHY, "")


def _listed(record: JsonObject, key: str) -> Sequence[object]:
    value = record.get(key)
    return value if isinstance(value, list) else ()


def _json(part: BaseModel | None) -> bytes:
    return b"null" if part is None else part.model_dump_json(by_alias=True).encode()


def _array(parts: Sequence[BaseModel]) -> bytes:
    return b"[%b]" % b",".join(map(_json, parts))


def whole(parts: dict[str, bytes]) -> bytes:
    """Return the state as one object."""
    told = {"time": json.dumps(round(time.time(), 3)).encode(), **parts}
    return b"{%b}" % b",".join(b'"%b":%b' % (key.encode(), part) for key, part in told.items())
