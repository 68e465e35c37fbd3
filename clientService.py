"""The client service: HTTP in front of the Ollama of one deployment, and benchmarks of it.

    python -m gunicorn --config client/serving.py --threads 64 'clientService:create_app()'

Configured by environment:
ORCH_OUTPUT_DIR, ORCH_OLLAMA_JOB, ORCH_MODEL, ORCH_JOB_ID, ORCH_DEPLOYMENT, ORCH_QUERY_TIMEOUT
(seconds that an answer may take; 600), ORCH_JOB_END (Unix time of the job's time limit),
ORCH_MONITORING_JOB, ORCH_THREADS (client/serving.py sets it), and for retrieval as
retrieval.settings says.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from client import health, openapi
from client.addresses import AddressFile
from client.answers import Stream, lines
from client.benchmarks import Benchmarks, job_of, new_id
from client.checks import BENCHMARK, MAX_BODY_BYTES, QUERY, checked, read_body
from client.errors import (
    BadInput,
    BenchmarkFailed,
    Conflict,
    ServiceError,
    TooSlow,
    Unanswered,
    Unreachable,
    error_object,
)
from client.metrics import Metrics, Queries, State
from client.monitoring import monitoring_of
from client.ollama import Ollama
from client.replicas import Replicas
from client.retrieval import Retrieval
from client.retrieval_routes import add_retrieval_routes, head_of, sources_fit, with_sources
from client.self_benchmark import own_url, with_room
from client.settings import Settings, settings_from
from loadgen import child
from loadgen.options import TargetError
from retrieval.settings import settings_from as retrieval_settings_from

T = TypeVar("T")

# --- Ollama ---------------------------------------------------------------------------------------


class OllamaClientService:
    """Asks the deployment's Ollama: of several replicas the one with the fewest requests.

    A request that a replica refuses, or cuts before any byte of an answer, is sent once more, to
    another one; `retried` is then called.
    """

    def __init__(self, settings: Settings, retried: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self.addresses = AddressFile(settings.output, settings.ollama_job)
        self._ollama = Ollama(self.addresses.ended)
        self.replicas = Replicas(self.addresses, self._ollama.check)
        self.queries = Queries()
        self._retried = retried

    def _get_ollama_ip(self) -> str:
        """`host:port` of the first replica, looked up again when the server moved.

        Raises NotReady.
        """
        return self.addresses.read()[0]

    def query_ollama(
        self,
        prompt: str,
        model: str | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        truncate: bool | None = None,
    ) -> dict[str, Any]:
        """Ollama's own answer, `request_time` in seconds, `replica` and whether it is `retried`.

        Where `truncate` is False, a prompt that is longer than the model reads is an error.
        Raises NotReady, Unreachable, TooSlow, OllamaFailed, Busy.
        """
        began = time.perf_counter()
        body = self._body(prompt, model, system, options, truncate, stream=False)

        def ask(address: str, left_s: float) -> dict[str, Any]:
            return self._ollama.generate(address, body, left_s)

        with self.queries.ask() as asked:
            answer, replica, retried = self._ask(ask)
            asked.answered(answer)
        self.replicas.give_back(replica)
        taken = time.perf_counter() - began
        return {**answer, "request_time": taken, "replica": replica, "retried": retried}

    def stream_ollama(
        self,
        prompt: str,
        model: str | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        truncate: bool | None = None,
    ) -> Stream:
        """Ollama's lines as they arrive; a failure on the way is a last line with an error.

        It must be closed where it is not read to its end. Raises, before the first line, what
        query_ollama raises.
        """
        body = self._body(prompt, model, system, options, truncate, stream=True)

        def begin(address: str, left_s: float) -> Stream:
            until = time.monotonic() + left_s
            response = self._ollama.begin(address, body, left_s)
            parts = lines(response, until, lambda: self.replicas.take_out(address))

            def ended() -> None:
                self.replicas.give_back(address)
                asked.end()

            return Stream(response, parts, asked.take, ended)

        with self.queries.ask() as asked:
            stream, replica, retried = self._ask(begin)
            asked.streams()
        stream.replica, stream.retried = replica, retried
        return stream

    def embed(self, body: bytes) -> dict[str, Any]:
        """Ollama's answer of /api/embed. Raises what query_ollama raises."""

        def ask(address: str, left_s: float) -> dict[str, Any]:
            return self._ollama.embed(address, body, left_s)

        answer, replica, _ = self._ask(ask)
        self.replicas.give_back(replica)
        return answer

    def _ask(self, call: Callable[[str, float], T]) -> tuple[T, str, bool]:
        """What `call` returns for an address and the seconds that are left, the address (it is to
        be given back), and whether it is the second that was asked."""
        deadline = time.monotonic() + self.settings.query_timeout_s
        address = self.replicas.take()
        try:
            return self._attempt(call, address, deadline), address, False
        except Unanswered:
            other = self.replicas.take_other(address)
            if other is None:
                raise
        self._retried()
        return self._attempt(call, other, deadline), other, True

    def _attempt(self, call: Callable[[str, float], T], address: str, deadline: float) -> T:
        answered = False
        try:
            answer = call(address, max(0.001, deadline - time.monotonic()))
            answered = True
        except (Unreachable, TooSlow):
            self.replicas.take_out(address)
            raise
        finally:
            if not answered:
                self.replicas.give_back(address)
        self.replicas.bring_back(address)
        return answer

    def health(self) -> dict[str, Any]:
        """What we reach: `status` is healthy, degraded (some replicas fail) or unhealthy (all do,
        and there is an `error`). Raises NotReady.
        """
        addresses = self.addresses.read()
        found = health.look(addresses, self.settings.model, self._ollama, self.replicas)
        return {
            "status": found.pop("status"),
            "ollama_host": addresses[0].partition(":")[0],
            "ollama": found.pop("ollama"),
            "model": self.settings.model,
            "deployment": self.settings.deployment,
            "job_id": self.settings.job_id,
            "ollama_job": self.settings.ollama_job,
            **found,
        }

    def _body(
        self,
        prompt: str,
        model: str | None,
        system: str | None,
        options: Mapping[str, Any] | None,
        truncate: bool | None,
        stream: bool,
    ) -> bytes:
        given = {"system": system, "options": options, "truncate": truncate}
        body = {"model": self.model_for(model), "prompt": prompt, "stream": stream}
        return json.dumps({**body, **{k: v for k, v in given.items() if v is not None}}).encode()

    def model_for(self, model: str | None) -> str:
        """`model`, or the deployment's. Raises BadInput where there is neither."""
        chosen = model or self.settings.model
        if not chosen:
            raise BadInput("model is missing, and the deployment names none.")
        return chosen


# --- HTTP ----------------------------------------------------------------------------------------


def create_app() -> Flask:
    """The service as the environment configures it. Raises ValueError naming a bad variable."""
    settings = settings_from(os.environ)
    benchmarks = Benchmarks(
        settings.output / "benchmarks",
        settings.record,
        lambda: monitoring_of(settings.output, settings.monitoring_job, settings.ollama_job),
    )
    metrics = Metrics()
    service = OllamaClientService(settings, metrics.retries.inc)
    metrics.show(State(settings, service.queries, benchmarks, service.replicas))
    retrieval = Retrieval(retrieval_settings_from(os.environ), service.embed, service.addresses)
    app = Flask("clientService", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _add_errors(app)
    _add_metrics(app, metrics)
    _add_ollama_routes(app, service, retrieval)
    add_retrieval_routes(app, retrieval)
    _add_benchmark_routes(app, service, benchmarks, retrieval)
    _add_description(app)
    gc.freeze()  # what is there by now stays; no collection walks it while a request waits
    return app


def _add_errors(app: Flask) -> None:
    @app.errorhandler(ServiceError)
    def ours(error: ServiceError) -> tuple[dict[str, Any], int]:
        return error_object(error.kind, str(error)), error.status

    @app.errorhandler(HTTPException)
    def theirs(error: HTTPException) -> Response:
        """Flask's own: 404, 405, 413, and 500 for what nobody expected (it is in the log)."""
        answer = Response(status=error.code, headers=dict(error.get_headers()))
        kind = error.name.lower().replace(" ", "_")
        answer.set_data(json.dumps(error_object(kind, error.description or error.name)))
        answer.mimetype = "application/json"
        return answer


def _add_metrics(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    app.after_request(metrics.watch)

    @app.get("/metrics")
    def metrics_text() -> Response:
        return metrics.text()


def _add_description(app: Flask) -> None:
    described = json.dumps(openapi.document(), indent=1)

    @app.get("/openapi.json")
    def describe() -> Response:
        return Response(described, mimetype="application/json")


def _add_ollama_routes(app: Flask, service: OllamaClientService, retrieval: Retrieval) -> None:
    @app.get("/health")
    def show_health() -> tuple[dict[str, Any], int]:
        found = retrieval.judge(service.health())
        return found, 503 if found["status"] == health.UNHEALTHY else 200

    @app.post("/query")
    def query() -> Response | dict[str, Any]:
        given = checked(read_body(), QUERY)
        stream = given.pop("stream", False)
        found = retrieval.prepare(given)
        with sources_fit(found):
            if not stream:
                return with_sources(service.query_ollama(**given), found)
            answer = service.stream_ollama(**given)
        answer.head = head_of(found, service.model_for(given.get("model")))
        response = Response(answer, mimetype="application/x-ndjson")
        response.headers["Orch-Replica"] = answer.replica
        response.headers["Orch-Retried"] = str(answer.retried).lower()
        return response


def _add_benchmark_routes(
    app: Flask, service: OllamaClientService, runs: Benchmarks, retrieval: Retrieval
) -> None:
    def ollama() -> list[str]:
        return [f"http://{address}" for address in service.addresses.read(fresh=True)]

    def ourselves() -> list[str]:
        retrieval.check()
        return [own_url(service.settings)]

    @app.post("/benchmark")
    def start() -> tuple[dict[str, Any], int]:
        given, urls = checked(read_body(), BENCHMARK), ollama
        if given.get("retrieval"):
            given, urls = with_room(given, service.settings.threads), ourselves
        run_id = given.get("id") or new_id()
        run = runs.start(run_id, job_of(given, service.model_for(given.get("model"))), urls)
        if run is not None and not given.get("wait", True):
            return {"id": run_id, "state": run.state}, 202
        if run is not None:
            run.wait()
        return _outcome(run, runs.describe(run_id), service), 200

    @app.get("/benchmark/<run_id>")
    def show(run_id: str) -> dict[str, Any]:
        return runs.describe(run_id)

    @app.delete("/benchmark/<run_id>")
    def cancel(run_id: str) -> dict[str, Any]:
        return runs.cancel(run_id)


def _outcome(
    run: child.Run | None, found: dict[str, Any], service: OllamaClientService
) -> dict[str, Any]:
    """The result of a run that ended. Raises BenchmarkFailed, or Conflict: it was cancelled."""
    if found["state"] == child.FAILED:
        ended = service.addresses.ended() if run and run.exit_code == TargetError.exit_code else ""
        raise BenchmarkFailed(f"{found['error']['message']} {ended}".rstrip())
    if found["state"] == child.CANCELLED:
        raise Conflict(
            f"The benchmark {found['id']} was stopped after {found['progress']['done']} requests; "
            f"GET /benchmark/{found['id']} has what was measured. Take another id for a new one."
        )
    return found
