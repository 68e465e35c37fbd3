"""What the job script tells the client service, by environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from client.idle.engine_job import EngineFiles
from contracts.given_server import GivenServer
from contracts.job_files import address_file, chain_folder
from engines.servers.deployable import DEPLOYED

_JOB_ID = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class ServiceSettings:
    """What the job script tells us; `query_timeout_s` in seconds. `job_end`: Unix time at which our
    job's time limit ends; `monitoring_job`: the one whose address files name Prometheus and the
    Pushgateway; `threads`: how many answer requests, as client/serving.py says."""

    output: Path
    ollama_job: str
    model: str | None
    job_id: str | None
    deployment: str | None
    #: The folder of the sockets of HAProxy, which is at the door.
    door: Path
    query_timeout_s: float = 600.0
    job_end: float | None = None
    monitoring_job: str | None = None
    threads: int | None = None
    #: Where the token is that Ollama asks for.
    token_file: Path | None = None
    #: What is measured in place of an Ollama of the deployment's own.
    server: GivenServer | None = None
    #: Who may log in: "user:NAME" or "group:NAME".
    share: tuple[str, ...] = ()
    #: Seconds without a request that end the deployment.
    idle_s: float | None = None
    #: Whether there is an engine only while somebody asks.
    on_request: bool = False
    #: What serves the model, by its name in `engines.servers.deployable.DEPLOYED`.
    engine: str = "ollama"
    #: From where it was submitted; None on this machine.
    login_host: str | None = None

    @property
    def record(self) -> Path | None:
        """Where the deployment's record is, if it is one of orch's."""
        if self.deployment is None:
            return None
        return self.output / "deployments" / f"{self.deployment}.json"

    @property
    def chain(self) -> Path | None:
        """The folder that is there if jobs follow this one."""
        return None if self.deployment is None else chain_folder(self.output, self.deployment)

    def engine_job(self) -> str:
        """Return the id of the engine's job; "" if there is none now."""
        return EngineFiles(self.door).read().job if self.on_request else self.ollama_job

    @property
    def addresses(self) -> Path:
        """Where the engine's job writes where its replicas are."""
        return address_file(self.output, DEPLOYED[self.engine].service, self.ollama_job)


def service_settings_from(environment: Mapping[str, str]) -> ServiceSettings:
    """Return settings from the ORCH_* variables. Raises ValueError naming the variable."""
    output, job = environment.get("ORCH_OUTPUT_DIR", ""), environment.get("ORCH_OLLAMA_JOB", "")
    timeout = environment.get("ORCH_QUERY_TIMEOUT") or "600"
    end, monitoring = environment.get("ORCH_JOB_END"), environment.get("ORCH_MONITORING_JOB")
    if not Path(output).is_absolute():
        raise ValueError(f"ORCH_OUTPUT_DIR is {output!r}, but must be an absolute path")
    server = _server(environment.get("ORCH_SERVER") or None)
    on_request = environment.get("ORCH_ON_REQUEST") == "1"
    if server is None and not on_request and not _JOB_ID.fullmatch(job):
        raise ValueError(f"ORCH_OLLAMA_JOB is {job!r}, but must be the id of the Ollama job")
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", timeout) or float(timeout) == 0:
        raise ValueError(f"ORCH_QUERY_TIMEOUT is {timeout!r}, but must be a number of seconds")
    if end and not re.fullmatch(r"\d{1,12}", end):
        raise ValueError(f"ORCH_JOB_END is {end!r}, but must be a Unix time in whole seconds")
    if monitoring and not _JOB_ID.fullmatch(monitoring):
        raise ValueError(f"ORCH_MONITORING_JOB is {monitoring!r}, but must be the id of a job")
    token_file, door = environment.get("ORCH_TOKEN_FILE"), environment.get("ORCH_DOOR")
    threads = environment.get("ORCH_THREADS")
    if not door or not Path(door).is_absolute():
        raise ValueError(f"ORCH_DOOR is {door or ''!r}, but must be an absolute path")
    if threads and not re.fullmatch(r"\d{1,5}", threads):
        raise ValueError(f"ORCH_THREADS is {threads!r}, but must be a number of threads")
    return ServiceSettings(
        output=Path(output),
        ollama_job=job,
        model=environment.get("ORCH_MODEL") or None,
        job_id=environment.get("ORCH_JOB_ID") or None,
        deployment=environment.get("ORCH_DEPLOYMENT") or None,
        query_timeout_s=float(timeout),
        job_end=float(end) if end else None,
        monitoring_job=monitoring or None,
        threads=int(threads) if threads else None,
        token_file=Path(token_file) if token_file else None,
        door=Path(door),
        server=server,
        share=_share(environment.get("ORCH_SHARE")),
        idle_s=_idle(environment.get("ORCH_IDLE_TIMEOUT")),
        on_request=on_request,
        login_host=environment.get("ORCH_SUBMIT_HOST") or None,
        engine=_engine(environment.get("ORCH_ENGINE") or "ollama"),
    )


def _idle(text: str | None) -> float | None:
    if text and not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise ValueError(f"ORCH_IDLE_TIMEOUT is {text!r}, but must be a number of seconds")
    return float(text) if text else None


def _engine(name: str) -> str:
    if name not in DEPLOYED:
        raise ValueError(f"ORCH_ENGINE is {name!r}, but must be one of {', '.join(DEPLOYED)}")
    return name


def _share(text: str | None) -> tuple[str, ...]:
    try:
        return TypeAdapter(tuple[str, ...]).validate_json(text) if text else ()
    except ValidationError as error:
        raise ValueError(f"ORCH_SHARE is {text!r}, but must be a list of texts as JSON") from error


def _server(text: str | None) -> GivenServer | None:
    try:
        return None if text is None else GivenServer.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"ORCH_SERVER is {text!r}, but must be a server as JSON") from error
