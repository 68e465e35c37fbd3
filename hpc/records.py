"""Deployment records: `output/deployments/<id>.json`, what --status, --stop and --attach read."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hpc.errors import UsageError
from hpc.files import write_atomically

#: States of a deployment. The live ones may still change; "degraded": a job of it has ended.
LIVE_STATES = ("submitting", "starting", "ready", "degraded", "stopping")
STATES = (*LIVE_STATES, "stopped", "ended", "failed")


def new_id(name: str) -> str:
    """An id that sorts by time among deployments of one name and is never given twice."""
    return f"{name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"


class Record:
    """One deployment's record. Each change is written at once and whole."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path = path
        self.data = data

    @property
    def id(self) -> str:
        """The deployment's id."""
        return str(self.data["id"])

    @property
    def state(self) -> str:
        """One of `STATES`, as last written; the scheduler may know better."""
        return str(self.data["state"])

    @property
    def live(self) -> bool:
        """Whether the record says that the deployment has not ended."""
        return self.state in LIVE_STATES

    @property
    def jobs(self) -> dict[str, str]:
        """Job ids by service, in the order of their submission."""
        return {name: str(job["id"]) for name, job in self.data["jobs"].items()}

    def update(self, **changes: Any) -> None:
        """Change top-level keys, and write. What others wrote meanwhile is kept."""
        try:
            self.data = json.loads(self.path.read_text())
        except (OSError, ValueError):
            pass  # the first write; or somebody damaged the file, and ours is better
        self.data.update(changes)
        write_atomically(self.path, json.dumps(self.data, indent=2) + "\n")

    def add_job(self, service: str, job_id: str, **facts: Any) -> None:
        """Note a submitted job."""
        jobs = {**self.data["jobs"], service: {"id": job_id, **facts}}
        self.update(jobs=jobs)


def create_record(output: Path, deployment_id: str, facts: Mapping[str, Any]) -> Record:
    """Write the record of a new deployment, before anything is submitted."""
    data = {
        "id": deployment_id,
        "state": "submitting",
        "created": datetime.now().astimezone().isoformat(timespec="microseconds"),
        "jobs": {},
        "endpoints": {"client": None, "ollama": []},
        **facts,
    }
    record = Record(output / "deployments" / f"{deployment_id}.json", data)
    record.update()
    return record


def load_records(output: Path) -> list[Record]:
    """All records of an output directory, newest last; files that are no record are left out."""
    found = []
    for path in (output / "deployments").glob("*.json"):
        try:
            data = json.loads(path.read_text())
            created = datetime.fromisoformat(data["created"]).timestamp()
            record = Record(path, data)
            _ = record.state, record.jobs, data["site"]["scheduler"], data["endpoints"]["ollama"]
            found.append((created, record.id, record))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return [entry[-1] for entry in sorted(found, key=lambda entry: entry[:2])]


def find_record(output: Path, deployment_id: str) -> Record:
    """The record of that id, or of the one deployment whose id starts so.

    Raises UsageError that lists what there is.
    """
    records = load_records(output)
    exact = [record for record in records if record.id == deployment_id]
    matches = exact or [record for record in records if record.id.startswith(deployment_id)]
    if len(matches) == 1:
        return matches[0]
    problem = "several deployments start with" if matches else "there is no deployment"
    known = ", ".join(record.id for record in (matches or records)[-5:]) or "none"
    raise UsageError(f"{problem} {deployment_id!r} in {output}; known: {known}.")
