"""The client service: HTTP in front of the Ollama of one deployment, and benchmarks of it.

    python -m gunicorn --config client/serving.py --threads 64 'clientService:create_app()'

Configured by environment:
ORCH_OUTPUT_DIR, ORCH_OLLAMA_JOB with ORCH_ENGINE (what serves there: its name in
engines/servers/deployable.py), or ORCH_SERVER (contracts/given_server.py, as JSON), ORCH_MODEL,
ORCH_JOB_ID, ORCH_DEPLOYMENT, ORCH_TOKEN_FILE (the token that Ollama asks for), ORCH_DOOR (the
folder of HAProxy's sockets, by which Ollama is asked; lib/door.cfg), ORCH_QUERY_TIMEOUT (seconds
that an answer may take; 600), ORCH_JOB_END (Unix time of the job's time limit), ORCH_SUBMIT_HOST
(from where it was submitted), ORCH_MONITORING_JOB, ORCH_SHARE (who may log in, as a list in JSON),
ORCH_IDLE_TIMEOUT (seconds without a request that end the deployment), ORCH_ON_REQUEST (1: of its
engine alone, which the next one begins; then no ORCH_OLLAMA_JOB), ORCH_THREADS (client/serving.py
sets it), and for retrieval as retrieval.settings says.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from client.api.answers import Error, ErrorWords, Unhealthy
from client.api.benchmark_answers import Begun
from client.api.bodies import BenchmarkRequest, Query
from client.api.json_body import read, sent, validate
from client.batches.routes import refused
from client.batches.service import add_batches
from client.benchmarks import Benchmarks, Described, Measured, new_id
from client.errors import BenchmarkFailed, Conflict, NoRetrieval, NotServed, RequestError
from client.handover.shown import Shown
from client.idle.service import watch_idle
from client.idle.sleeping import sleeping
from client.live.series import Recorder
from client.live.service import add_live
from client.login import add_login_routes
from client.metrics import Metrics, Queries, State
from client.monitoring_urls import monitoring_of
from client.named_tokens import NamedTokens
from client.ollama.callers import CallerGone, caller, check_waits, turn, user
from client.ollama.service import OllamaClientService
from client.page.routes import add_page
from client.retrieval import Retriever
from client.retrieval_routes import add_retrieval_routes, head_of, sources_fit, with_sources
from client.self_benchmark import authority_of, door_url, own_url, with_room
from client.settings import ServiceSettings, service_settings_from
from client.usage import UsageByName, usage_of
from contracts.errors import TargetError
from contracts.given_server import GivenServer
from contracts.json_object import JsonObject
from contracts.named_tokens import tokens_folder
from loadgen.load import child_process
from retrieval.bounds import MAX_BODY_BYTES
from retrieval.settings import retrieval_settings_from

#: Seconds between two looks whether somebody waits for a benchmark still.
_LOOK_S = 1.0


def create_app() -> Flask:
    """Return the service that the environment describes. Raises ValueError naming what is bad."""
    settings = service_settings_from(os.environ)
    app, metrics = Flask("clientService", static_folder=None), Metrics()
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _add_errors(app)
    _add_metrics(app, metrics)
    tokens = _tokens(settings)
    recorder = Recorder()
    usage = usage_of(settings, metrics, recorder.add)
    if settings.server is None:
        _add_ollama(app, settings, metrics, tokens, usage, recorder)
    else:
        _add_given(app, settings, settings.server, metrics, recorder)
    add_login_routes(app, settings, tokens)
    add_page(app, settings, tokens, user)
    _add_description(app)
    gc.freeze()  # what is there by now stays; no collection walks it while a request waits
    return app


def _tokens(settings: ServiceSettings) -> NamedTokens | None:
    """What tells the door of tokens by name; None if there is no deployment that has some."""
    if settings.deployment is None:
        return None
    tokens = NamedTokens(tokens_folder(settings.output, settings.deployment), settings.door)
    tokens.follow()
    return tokens


def _add_ollama(
    app: Flask,
    settings: ServiceSettings,
    metrics: Metrics,
    tokens: NamedTokens | None,
    usage: UsageByName | None,
    recorder: Recorder,
) -> None:
    """The deployment's own Ollama, which queries are passed on to."""
    benchmarks = _benchmarks(
        settings, settings.token_file, authority_of(settings), settings.addresses
    )
    sources = retrieval_settings_from(os.environ)
    service = OllamaClientService(
        settings,
        metrics.retries.inc,
        sources.embedding_model if sources else None,
        lambda: benchmarks.totals().running,
        Queries() if usage is None else Queries(user, usage.add_tokens, recorder.answered),
        turn,
    )
    service.servers.follow(service.replicas.recheck)
    metrics.show(State(settings, service.queries, benchmarks, service.replicas))
    handover = Shown(settings)
    metrics.show(handover)
    retrieval = Retriever(sources, service.embed, service.addresses, settings.output)
    metrics.show(retrieval)
    _add_ollama_routes(app, service, retrieval, handover)
    batches = add_batches(app, settings, tokens, user)
    watch_idle(
        settings,
        lambda: benchmarks.totals().running > 0 or (batches is not None and batches.open()),
        service.servers,
    )
    add_live(settings, recorder, benchmarks, service, batches)
    add_retrieval_routes(app, retrieval)
    _add_benchmark_routes(app, service, benchmarks, retrieval.check)


def _add_given(
    app: Flask,
    settings: ServiceSettings,
    server: GivenServer,
    metrics: Metrics,
    recorder: Recorder,
) -> None:
    """A server that is measured alone: it has a door of its own."""
    from client.given_server import Given  # most have none

    given = Given(settings, server)
    benchmarks = _benchmarks(given.settings, given.token_file)
    metrics.show(State(given.settings, Queries(), benchmarks, given))
    add_live(given.settings, recorder, benchmarks)

    @app.get("/health")
    def show_health() -> tuple[Response, int]:
        return sent(*given.health())

    @app.post("/query")
    @app.post("/search")
    @app.post("/points")
    @app.get("/slots")
    def not_served() -> Response:
        raise NotServed(f"This deployment measures {given.server.url}; ask that server itself.")

    def no_retrieval() -> None:
        raise NoRetrieval(f"This deployment measures {given.server.url}, without retrieval.")

    _add_benchmark_routes(app, given, benchmarks, no_retrieval)


def _benchmarks(settings: ServiceSettings, *files: Path | None) -> Benchmarks:
    return Benchmarks(
        settings.output / "benchmarks",
        settings.record,
        lambda: monitoring_of(settings.output, settings.monitoring_job, settings.engine_job()),
        settings.chain,
        *files,
    )


def _add_errors(app: Flask) -> None:
    @app.errorhandler(RequestError)
    def ours(error: RequestError) -> tuple[Response, int]:
        answer, status = sent(Error(error=error.words), error.status)
        if error.passes:
            answer.headers["Retry-After"] = "5"  # as the door says it
        return answer, status

    @app.errorhandler(CallerGone)
    def nobodys(error: CallerGone) -> tuple[Response, int]:
        return sent(Error(error=ErrorWords(type="caller_gone", message=str(error))), error.status)

    @app.errorhandler(HTTPException)
    def theirs(error: HTTPException) -> Response | tuple[Response, int]:
        """Flask's own: 404, 405, 413, and 500 for what nobody expected (it is in the log)."""
        if request.path.startswith("/v1/"):
            return refused(error)
        answer = Response(status=error.code, headers=dict(error.get_headers()))
        kind = error.name.lower().replace(" ", "_")
        words = ErrorWords(type=kind, message=error.description or error.name)
        answer.set_data(json.dumps(Error(error=words).as_json()))
        answer.mimetype = "application/json"
        return answer


def _add_metrics(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def begin() -> None:
        g.started_at = time.perf_counter()

    app.after_request(metrics.watch)

    @app.get("/metrics")
    def metrics_text() -> Response:
        return metrics.text()


def _add_description(app: Flask) -> None:
    @app.get("/openapi.json")
    def describe() -> Response:
        from client.api import openapi  # few ask for it

        return Response(openapi.text(), mimetype="application/json")


def _add_ollama_routes(
    app: Flask, service: OllamaClientService, retrieval: Retriever, handover: Shown
) -> None:
    @app.get("/health")
    def show_health() -> tuple[Response, int]:
        if (none := sleeping(service.settings)) is not None:
            return sent(none)
        found = handover.in_health(retrieval.judge(*service.health()))
        return sent(found, 503 if isinstance(found, Unhealthy) else 200)

    @app.post("/query")
    def query() -> Response | JsonObject:
        asked, found = retrieval.prepare(read(Query))
        with sources_fit(found):
            if not asked.stream:
                return with_sources(service.query_ollama(asked, caller()), found)
            answer = service.stream_ollama(asked, caller())
        answer.head = head_of(found, service.model_for(asked.model))
        response = Response(answer, mimetype="application/x-ndjson")
        response.headers["Orch-Replica"] = answer.replica
        response.headers["Orch-Retried"] = str(answer.retried).lower()
        return response


def _add_benchmark_routes(
    app: Flask, service: Measured, runs: Benchmarks, check_retrieval: Callable[[], None]
) -> None:
    def ourselves() -> list[str]:
        check_retrieval()
        return [own_url(service.settings)]

    def door() -> list[str]:
        return [door_url(service.settings)]

    @app.post("/benchmark")
    def start() -> tuple[Response, int] | JsonObject:
        asked, urls = read(BenchmarkRequest), service.urls
        if asked.retrieval:
            asked, urls = with_room(asked, service.settings.threads), ourselves
        elif asked.through == "door":
            urls = door
        run_id, api = asked.id or new_id(), service.api_for(asked.api)
        if not asked.retrieval:  # what does not go with that API does not go with its default
            validate({**asked.model_dump(exclude_unset=True), "api": api}, BenchmarkRequest)
        job = asked.run(service.model_for(asked.model), api=api)
        run = runs.start(run_id, job, urls)
        if run is not None and not asked.wait:
            return sent(Begun(id=run_id, state=run.state), 202)
        while run is not None and not run.wait(_LOOK_S):
            check_waits(caller())
        found = runs.describe(run_id)
        if found.state.state == child_process.RUNNING:  # the job before goes on with it
            return sent(Begun(id=run_id, state=found.state.state), 202)
        return _outcome(run, found, service).as_json()

    @app.get("/benchmark/<run_id>")
    def show(run_id: str) -> JsonObject:
        return runs.describe(run_id).as_json()

    @app.delete("/benchmark/<run_id>")
    def cancel(run_id: str) -> tuple[Response, int]:
        return sent(runs.cancel(run_id))


def _outcome(run: child_process.ChildRun | None, found: Described, service: Measured) -> Described:
    """Return the result of a run that ended. Raises BenchmarkFailed, Conflict: it was cancelled."""
    state = found.state
    if state.state == child_process.FAILED and state.error is not None:
        unreached = run is not None and run.exit_code == TargetError.exit_code
        more = service.exit_sentence() if unreached else ""
        raise BenchmarkFailed(f"{state.error.message} {more}".rstrip())
    if state.state == child_process.CANCELLED and state.progress is not None:
        raise Conflict(
            f"The benchmark {state.id} was stopped after {state.progress.done} requests; "
            f"GET /benchmark/{state.id} has what was measured. Take another id for a new one."
        )
    return found
