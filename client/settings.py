"""What the job script tells the client service, by environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_JOB_ID = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Settings:
    """What the job script tells us; `query_timeout_s` in seconds."""

    output: Path
    ollama_job: str
    model: str | None
    job_id: str | None
    deployment: str | None
    query_timeout_s: float = 600.0

    @property
    def record(self) -> Path | None:
        """Where the deployment's record is, if it is one of orch's."""
        if self.deployment is None:
            return None
        return self.output / "deployments" / f"{self.deployment}.json"


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
