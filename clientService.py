"""The client service: HTTP in front of the Ollama of one deployment, and benchmarks of it.

    python -m gunicorn --workers 1 --worker-class gthread --threads 32 --timeout 0 \\
        'clientService:create_app()'

One worker: the state of a running benchmark lives in its process. Configured by environment:
ORCH_OUTPUT_DIR, ORCH_OLLAMA_JOB, ORCH_MODEL, ORCH_JOB_ID, ORCH_DEPLOYMENT, ORCH_QUERY_TIMEOUT
(seconds that an answer may take; 600).
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import urllib3
from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from loadgen import child
from loadgen.options import DEFAULT_PROMPT, LIMITS, MAX_PROMPT_BYTES, RUN_ID, TargetError

OLLAMA_PORT = 11434
CONNECT_TIMEOUT_S = 2.0
HEALTH_TIMEOUT_S = 5.0
MAX_BODY_BYTES = 2_000_000
MAX_REQUESTS = LIMITS["requests"][1]
RUNS_REMEMBERED = 100

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_JOB_ID = re.compile(r"[A-Za-z0-9_.-]+")

# --- errors ---------------------------------------------------------------------------------------


class ServiceError(Exception):
    """What a caller is told: a sentence, `kind` for programs, and the HTTP status."""

    status = 500
    kind = "internal"


class BadInput(ServiceError):
    """The request makes no sense; the message names all that is wrong with it."""

    status, kind = 400, "bad_request"


class Unknown(ServiceError):
    """There is no such benchmark."""

    status, kind = 404, "not_found"


class Conflict(ServiceError):
    """Not now, or not under this id."""

    status, kind = 409, "conflict"


class Unsupported(ServiceError):
    """The body is not declared as JSON."""

    status, kind = 415, "unsupported_media_type"


class Busy(ServiceError):
    """Ollama's own queue is full."""

    status, kind = 429, "ollama_busy"


class OllamaFailed(ServiceError):
    """Ollama answered with an error; the message has its words."""

    status, kind = 502, "ollama_error"


class NotReady(ServiceError):
    """Ollama's address is not known (yet, or any more)."""

    status, kind = 503, "ollama_not_ready"


class Unreachable(ServiceError):
    """Ollama does not answer at its address."""

    status, kind = 503, "ollama_unreachable"


class TooSlow(ServiceError):
    """Ollama did not answer in time."""

    status, kind = 504, "timeout"


class CannotWrite(ServiceError):
    """The output directory takes no results."""

    status, kind = 500, "output_not_writable"


class BenchmarkFailed(ServiceError):
    """The load generator could not measure."""

    status, kind = 502, "benchmark_failed"


def error_object(kind: str, message: str) -> dict[str, Any]:
    """The one shape that every error has."""
    return {"error": {"type": kind, "message": message}}


# --- settings -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the job script tells us; `query_timeout_s` in seconds."""

    output: Path
    ollama_job: str
    model: str | None
    job_id: str | None
    deployment: str | None
    query_timeout_s: float = 600.0


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings from the ORCH_* variables. Raises ValueError naming the variable."""
    output, job = environment.get("ORCH_OUTPUT_DIR", ""), environment.get("ORCH_OLLAMA_JOB", "")
    timeout = environment.get("ORCH_QUERY_TIMEOUT") or "600"
    if not Path(output).is_absolute():
        raise ValueError(f"ORCH_OUTPUT_DIR is {output!r}, but must be an absolute path")
    if not _JOB_ID.fullmatch(job):
        raise ValueError(f"ORCH_OLLAMA_JOB is {job!r}, but must be the id of the Ollama job")
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", timeout) or float(timeout) == 0:
        raise ValueError(f"ORCH_QUERY_TIMEOUT is {timeout!r}, but must be a number of seconds")
    return Settings(
        output=Path(output),
        ollama_job=job,
        model=environment.get("ORCH_MODEL") or None,
        job_id=environment.get("ORCH_JOB_ID") or None,
        deployment=environment.get("ORCH_DEPLOYMENT") or None,
        query_timeout_s=float(timeout),
    )


# --- addresses ------------------------------------------------------------------------------------


class AddressFile:
    """`ollama_ip_<job>.txt` of the one job that is ours: an address per line and replica."""

    def __init__(self, output: Path, job: str) -> None:
        self._path = output / f"ollama_ip_{job}.txt"
        self._end = output / "logs" / f"{job}.rc"
        self._job = job
        self._known: tuple[object, list[str]] = (None, [])

    def read(self, fresh: bool = False) -> list[str]:
        """`host:port` of each replica; the file is read again when it changed, or when `fresh`.

        Raises NotReady where it is not there or holds something else.
        """
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_ino, found.st_size)
            if fresh or self._known[0] != version:
                self._known = (version, self._parse(self._path.read_bytes()))
        except FileNotFoundError as error:
            raise NotReady(self._missing()) from error
        except OSError as error:
            raise NotReady(f"{self._path} cannot be read: {error.strerror}.") from error
        return self._known[1]

    def ended(self) -> str:
        """A sentence that the job has ended, with exit code and reason; empty while it has not."""
        _ask_server(self._end)
        try:
            code, _, rest = self._end.read_text("utf-8", "replace").partition("\n")
        except OSError:
            return ""
        reason = rest.strip().partition("\n")[0][:300]
        words = f"exit code {code.strip()[:10]}{f': {reason}' if reason else ''}"
        return f"The Ollama job {self._job} has ended ({words})."

    def _missing(self) -> str:
        _ask_server(self._path)
        return self.ended() or (
            f"Waiting for the Ollama job {self._job}: it has not written its address to "
            f"{self._path} yet."
        )

    def _parse(self, content: bytes) -> list[str]:
        lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
        addresses = [self._address(line) for line in lines if line]
        if not addresses:
            raise NotReady(f"{self._path} is empty; it must hold host:port.")
        return addresses

    def _address(self, line: str) -> str:
        host, _, port = line.partition(":")
        number = port or str(OLLAMA_PORT)
        if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", number):
            raise NotReady(f"{self._path} holds {line[:80]!r}, which is no host:port.")
        if not 0 < int(number) < 65536:
            raise NotReady(f"{self._path} holds the port {number}, which does not exist.")
        return f"{host}:{int(number)}"


def _ask_server(path: Path) -> None:
    """Have a network file system look again: NFS remembers for a minute that a file was missing,
    and forgets it when the directory is opened."""
    try:
        os.close(os.open(path.parent, os.O_RDONLY))
    except OSError:
        pass


# --- Ollama ---------------------------------------------------------------------------------------


class OllamaClientService:
    """Asks the deployment's Ollama; several replicas take turns.

    HTTP goes straight there: urllib3 does not look at http_proxy.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.addresses = AddressFile(settings.output, settings.ollama_job)
        self._pool = urllib3.PoolManager(num_pools=64, maxsize=1000, retries=False)
        self._turn = 0

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
    ) -> dict[str, Any]:
        """Ollama's own answer, and `request_time` in seconds.

        Raises NotReady, Unreachable, TooSlow, OllamaFailed, Busy.
        """
        began = time.perf_counter()
        body = self._body(prompt, model, system, options, stream=False)
        response = self._generate(body, stream=False)
        answer = _json_object(response.data, "Ollama's answer")
        return {**answer, "request_time": time.perf_counter() - began}

    def stream_ollama(
        self,
        prompt: str,
        model: str | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Iterator[bytes]:
        """Ollama's lines as they arrive; a failure on the way is a last line with an error.

        Raises, before the first line, what query_ollama raises.
        """
        body = self._body(prompt, model, system, options, stream=True)
        response = self._generate(body, stream=True)
        return _lines(response, time.monotonic() + self.settings.query_timeout_s)

    def health(self) -> dict[str, Any]:
        """What we reach. Raises NotReady, Unreachable, TooSlow, OllamaFailed: one replica fails."""
        addresses = self.addresses.read()
        with ThreadPoolExecutor(len(addresses)) as pool:
            replicas = list(pool.map(self._replica, addresses))
        return {
            "status": "healthy",
            "ollama_host": addresses[0].partition(":")[0],
            "ollama": replicas,
            "model": self.settings.model,
            "deployment": self.settings.deployment,
            "job_id": self.settings.job_id,
            "ollama_job": self.settings.ollama_job,
        }

    def _replica(self, address: str) -> dict[str, Any]:
        version, tags, running = (
            self._get(address, path) for path in ("/api/version", "/api/tags", "/api/ps")
        )
        listed = _entry(tags, self.settings.model)
        loaded = _entry(running, self.settings.model)
        return {
            "address": address,
            "version": version.get("version"),
            "model": listed and listed.get("name"),
            "available": listed is not None,
            "loaded": loaded is not None,
            "placement": loaded and _placement(loaded),
        }

    def _get(self, address: str, path: str) -> dict[str, Any]:
        response = self._send("GET", address, path, None, HEALTH_TIMEOUT_S, stream=False)
        return _json_object(response.data, f"Ollama's answer to {path}")

    def _body(
        self,
        prompt: str,
        model: str | None,
        system: str | None,
        options: Mapping[str, Any] | None,
        stream: bool,
    ) -> bytes:
        given = {"system": system, "options": options}
        body = {"model": self.model_for(model), "prompt": prompt, "stream": stream}
        return json.dumps({**body, **{k: v for k, v in given.items() if v is not None}}).encode()

    def model_for(self, model: str | None) -> str:
        """`model`, or the deployment's. Raises BadInput where there is neither."""
        chosen = model or self.settings.model
        if not chosen:
            raise BadInput("model is missing, and the deployment names none.")
        return chosen

    def _generate(self, body: bytes, stream: bool) -> urllib3.BaseHTTPResponse:
        """Ask one replica after the other until one can be reached."""
        timeout_s = self.settings.query_timeout_s
        failure: Unreachable | None = None
        for address in self._candidates():
            try:
                return self._send("POST", address, "/api/generate", body, timeout_s, stream)
            except Unreachable as error:
                failure = error
        raise failure or Unreachable("Ollama has no address.")

    def _candidates(self) -> Iterator[str]:
        """Each replica once, then those that the file names when it is read afresh."""
        self._turn += 1
        tried: set[str] = set()
        for fresh in (False, True):
            addresses = self.addresses.read(fresh)
            turn = self._turn % len(addresses)
            for address in addresses[turn:] + addresses[:turn]:
                if address not in tried:
                    tried.add(address)
                    yield address

    def _send(
        self, method: str, address: str, path: str, body: bytes | None, read_s: float, stream: bool
    ) -> urllib3.BaseHTTPResponse:
        try:
            response = self._pool.request(
                method,
                f"http://{address}{path}",
                body=body,
                headers={"Content-Type": "application/json"} if body else None,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_s),
                preload_content=not stream,
                redirect=False,
            )
        except ReadTimeoutError as error:
            raise TooSlow(self._about(address, f"did not answer in {read_s:g} s")) from error
        except (ConnectTimeoutError, NewConnectionError) as error:
            raise Unreachable(self._about(address, f"does not answer ({_why(error)})")) from error
        except ProtocolError as error:
            raise Unreachable(self._about(address, "closed the connection")) from error
        except HTTPError as error:
            raise OllamaFailed(self._about(address, f"failed ({error})")) from error
        if response.status != 200:
            raise self._refusal(address, response)
        return response

    def _about(self, address: str, what: str) -> str:
        return f"Ollama at {address} {what}. {self.addresses.ended()}".rstrip()

    def _refusal(self, address: str, response: urllib3.BaseHTTPResponse) -> ServiceError:
        """Ollama's own words; it answers 503 when its queue is full."""
        try:
            text = response.data.decode("utf-8", "replace")
        except HTTPError:
            text = ""
        try:
            text = str(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        kind = Busy if response.status == 503 else OllamaFailed
        return kind(f"Ollama at {address} answered {response.status}: {text.strip()[:500]}")


def _why(error: Exception) -> str:
    """The last part of urllib3's message: without its object's address."""
    if isinstance(error, ConnectTimeoutError):
        return f"no connection in {CONNECT_TIMEOUT_S:g} s"
    return str(error).rpartition(": ")[2]


def _json_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OllamaFailed(f"{what} is not JSON: {data[:100]!r}.") from error
    if not isinstance(value, dict):
        raise OllamaFailed(f"{what} is no JSON object: {data[:100]!r}.")
    return value


def _entry(answer: Mapping[str, Any], model: str | None) -> dict[str, Any] | None:
    """The entry of a model in what /api/tags or /api/ps lists; a name without a tag is :latest."""
    names = {model, f"{model}:latest"} if model else set()
    models = answer.get("models")
    entries = models if isinstance(models, list) else []
    return next((e for e in entries if isinstance(e, dict) and e.get("name") in names), None)


def _placement(entry: Mapping[str, Any]) -> dict[str, Any]:
    size, on_gpu = int(entry.get("size") or 0), int(entry.get("size_vram") or 0)
    where = "cpu" if on_gpu == 0 else "gpu" if on_gpu >= size else "gpu+cpu"
    return {"size": size, "size_vram": on_gpu, "where": where}


def _lines(response: urllib3.BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
    """Whole lines as they arrive, each piece of the network at once; at the end an error's line
    where the stream broke off, failed, or took longer than `deadline` (time.monotonic)."""
    rest = last = b""
    failure: ServiceError | None = None
    try:
        for piece in response.stream(65_536, decode_content=False):
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                last = whole.rpartition(b"\n")[2]
                yield whole + newline
            if time.monotonic() > deadline:
                failure = TooSlow("The answer took too long.")
                break
    except ReadTimeoutError:
        failure = TooSlow("Ollama sent nothing for too long.")
    except HTTPError as error:
        failure = OllamaFailed(f"The stream broke off: {error}.")
    finally:
        response.close()
    failure = failure or _unfinished(last)
    if failure is not None:
        yield json.dumps(error_object(failure.kind, str(failure))).encode() + b"\n"


def _unfinished(last: bytes) -> ServiceError | None:
    """What is wrong with a stream whose last line this is; None for the final chunk."""
    try:
        chunk = json.loads(last)
    except (ValueError, RecursionError):
        chunk = None
    if isinstance(chunk, dict) and chunk.get("done"):
        return None
    if isinstance(chunk, dict) and "error" in chunk:
        return OllamaFailed(f"Ollama failed: {str(chunk['error'])[:500]}")
    return OllamaFailed("The stream ended without its final chunk.")


# --- what comes in --------------------------------------------------------------------------------

# A check says what is allowed where a value is not.
Check = Callable[[Any], str | None]


def _text(limit: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogatepass")) <= limit:
            return None
        return f"a text of 1 to {limit} bytes"

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and low <= value <= high else f"a whole number from {low} to {high}"

    return check


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "an object"


def _run_id(value: Any) -> str | None:
    if isinstance(value, str) and RUN_ID.fullmatch(value):
        return None
    return "1 to 100 of A-Z a-z 0-9 . _ - and not begin with a dot"


QUERY: Mapping[str, Check] = {
    "prompt": _text(MAX_PROMPT_BYTES),
    "model": _text(256),
    "system": _text(MAX_PROMPT_BYTES),
    "options": _object,
    "stream": _boolean,
}
BENCHMARK: Mapping[str, Check] = {
    "n_clients": _integer(*LIMITS["clients"]),
    "n_requests_per_client": _integer(1, MAX_REQUESTS),
    "prompt": _text(MAX_PROMPT_BYTES),
    "model": _text(256),
    "num_predict": _integer(*LIMITS["num_predict"]),
    "seed": _integer(*LIMITS["seed"]),
    "warmup": _integer(*LIMITS["warmup"]),
    "wait": _boolean,
    "id": _run_id,
}


def read_body() -> dict[str, Any]:
    """The JSON object that came in. Raises Unsupported, BadInput, or werkzeug's 413."""
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise Unsupported("The body must be JSON: send Content-Type: application/json.")
    data = request.get_data()
    if len(data) == MAX_BODY_BYTES:  # of a chunked body werkzeug quietly drops what is above it
        raise RequestEntityTooLarge()
    try:
        body = json.loads(
            data.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_no_twins,
        )
    except RecursionError as error:
        raise BadInput("The body is nested too deeply.") from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise BadInput(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadInput(f"The body must be a JSON object, not {_shown(body)}.")
    return body


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return made


def checked(body: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """The fields that were given (null counts as not given). Raises BadInput naming all errors."""
    given = {key: value for key, value in body.items() if value is not None}
    problems = [_unknown(key, checks) for key in body if key not in checks]
    for key, check in checks.items():
        allowed = check(given[key]) if key in given else None
        if allowed is not None:
            problems.append(f"{key} is {_shown(given[key])}, but must be {allowed}")
    if checks is QUERY and "prompt" not in given:
        problems.append("prompt is missing")
    many = given.get("n_clients", 1), given.get("n_requests_per_client", 1)
    if not problems and many[0] * many[1] > MAX_REQUESTS:
        problems.append(
            f"n_clients x n_requests_per_client is {many[0] * many[1]}, but must be at most "
            f"{MAX_REQUESTS}"
        )
    if problems:
        raise BadInput("; ".join(problems) + ".")
    return given


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key[:100], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{_shown(key)} is unknown ({hint})"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


# --- benchmarks -----------------------------------------------------------------------------------


class Benchmarks:
    """The runs of the load generator: one at a time, found again by their ids, also on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str, child.Run] = {}
        self._lock = threading.Lock()

    def running(self) -> child.Run | None:
        """The run that goes on now."""
        return next((run for run in list(self._runs.values()) if run.state == child.RUNNING), None)

    def start(self, run_id: str, job: child.Job, urls: Callable[[], list[str]]) -> child.Run | None:
        """Start a run, or join the one with this id; None where its results are on disk already.

        Raises Conflict: another one runs, or the id is that of a run with other parameters;
        CannotWrite.
        """
        with self._lock:
            if self._exists(run_id, job):
                return self._runs.get(run_id)
            running = self.running()
            if running is not None:
                raise Conflict(f"The benchmark {running.id} is running; one at a time.")
            while len(self._runs) >= RUNS_REMEMBERED:
                self._runs.pop(next(iter(self._runs)))
            self._runs[run_id] = run = self._begin(run_id, job, urls())
            return run

    def _begin(self, run_id: str, job: child.Job, urls: list[str]) -> child.Run:
        try:
            return child.Run(run_id, self._folder / run_id, job, urls)
        except OSError as error:
            raise CannotWrite(f"The benchmark cannot start: {error}.") from error

    def _exists(self, run_id: str, job: child.Job) -> bool:
        """Whether a run of this id goes on or has results; a failed one may be begun again."""
        run, folder = self._runs.get(run_id), self._folder / run_id
        running = run is not None and run.state == child.RUNNING
        if not running and not (folder / "summary.json").exists():
            return False
        before = child.read_job(folder)
        if before is not None and before != job:
            raise Conflict(f"The benchmark {run_id} exists with other parameters: {before}.")
        return True

    def describe(self, run_id: str) -> dict[str, Any]:
        """State, progress and, once it has ended, the result. Raises Unknown."""
        run, folder = self._runs.get(run_id), self._folder / run_id
        if run is not None and run.state in (child.RUNNING, child.FAILED):
            failed = error_object(BenchmarkFailed.kind, run.error) if run.error else {}
            return {"id": run_id, "state": run.state, "progress": run.progress(), **failed}
        if not RUN_ID.fullmatch(run_id) or not folder.is_dir():
            raise Unknown(f"There is no benchmark {_shown(run_id)}.")
        found = _stored(folder)
        if run is not None and run.state == child.CANCELLED and "results" not in found:
            found = {"state": run.state, "progress": run.progress()}  # before anything was measured
        return {"id": run_id, **found}

    def cancel(self, run_id: str) -> dict[str, Any]:
        """End a run; what was measured is kept. Raises Unknown, Conflict: it has ended."""
        run = self._runs.get(run_id)
        if run is not None and run.state == child.RUNNING:
            run.cancel()
        found = self.describe(run_id)
        if found["state"] != child.CANCELLED:
            raise Conflict(f"The benchmark {run_id} has ended already: {found['state']}.")
        return {key: found[key] for key in ("id", "state", "progress")}


def _stored(folder: Path) -> dict[str, Any]:
    """State, progress and result of a run by what it left on disk."""
    try:
        result = child.read_result(folder)
    except (OSError, ValueError) as error:
        raise BenchmarkFailed(f"The results in {folder} cannot be read: {error}.") from error
    if result is None:
        nothing = error_object(BenchmarkFailed.kind, f"It left no results in {folder}.")
        return {"state": child.FAILED, "progress": None, **nothing}
    requests, seconds = result["requests"], result["seconds"]
    progress = {
        "phase": "measure",
        "planned": requests["planned"],
        "done": requests["succeeded"] + requests["failed"],
        "failed": requests["failed"],
        "elapsed_seconds": seconds["warmup"] + seconds["measured"],
    }
    state = child.CANCELLED if result["stopped"] else child.DONE
    return {"state": state, "progress": progress, **result}


def job_of(given: Mapping[str, Any], model: str) -> child.Job:
    """What the load generator is to do, with the defaults for what was not given."""
    clients = given.get("n_clients", 1)
    return child.Job(
        model=model,
        prompt=given.get("prompt", DEFAULT_PROMPT),
        clients=clients,
        requests=clients * given.get("n_requests_per_client", 1),
        num_predict=given.get("num_predict"),
        seed=given.get("seed", 0),
        warmup=given.get("warmup", 1),
    )


def new_id() -> str:
    """A run id that nobody has: the time, to find it again, and chance."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


# --- HTTP -----------------------------------------------------------------------------------------


class Metrics:
    """What /metrics shows."""

    def __init__(self, benchmarks: Benchmarks) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "orch_client_requests_total",
            "HTTP requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "orch_client_request_duration_seconds",
            "Time until the whole answer was sent.",
            ["route"],
            registry=self.registry,
            buckets=(0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
        )
        gauge = Gauge(
            "orch_client_benchmark_running", "1 while a benchmark runs.", registry=self.registry
        )
        gauge.set_function(lambda: benchmarks.running() is not None)

    def watch(self, response: Response) -> Response:
        """Count a response once it has been sent to its end."""
        route = request.url_rule.rule if request.url_rule else "unknown"
        status, began = str(response.status_code), g.began

        def sent() -> None:
            self.requests.labels(route, status).inc()
            self.seconds.labels(route).observe(time.perf_counter() - began)

        response.call_on_close(sent)
        return response


def create_app() -> Flask:
    """The service as the environment configures it. Raises ValueError naming a bad variable."""
    settings = settings_from(os.environ)
    service = OllamaClientService(settings)
    benchmarks = Benchmarks(settings.output / "benchmarks")
    app = Flask("clientService", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _add_errors(app)
    _add_metrics(app, Metrics(benchmarks))
    _add_ollama_routes(app, service)
    _add_benchmark_routes(app, service, benchmarks)
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
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)


def _add_ollama_routes(app: Flask, service: OllamaClientService) -> None:
    @app.get("/health")
    def health() -> dict[str, Any]:
        return service.health()

    @app.post("/query")
    def query() -> Response | dict[str, Any]:
        given = checked(read_body(), QUERY)
        stream = given.pop("stream", False)
        if not stream:
            return service.query_ollama(**given)
        return Response(service.stream_ollama(**given), mimetype="application/x-ndjson")


def _add_benchmark_routes(app: Flask, service: OllamaClientService, runs: Benchmarks) -> None:
    def urls() -> list[str]:
        return [f"http://{address}" for address in service.addresses.read(fresh=True)]

    @app.post("/benchmark")
    def start() -> tuple[dict[str, Any], int]:
        given = checked(read_body(), BENCHMARK)
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
            f"The benchmark {found['id']} was stopped after {found['progress']['done']} of "
            f"{found['progress']['planned']} requests; GET /benchmark/{found['id']} has what was "
            "measured. Take another id for a new one."
        )
    return found
