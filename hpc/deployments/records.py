"""Deployment records: `output/deployments/<id>.json`, what --status, --stop and --attach read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import UsageError
from contracts.files import write_atomically
from contracts.job_files import forget_tokens
from contracts.jobs.ids import cluster_of, join, number_of
from engines.json_values import part_of, text_of
from hpc.times import parse_time

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hpc.deployments.facts import (
        BatchFacts,
        ChainFacts,
        Endpoints,
        Facts,
        JobFacts,
        ReplicaFacts,
    )

#: States of a deployment that may still change; after them come "stopped", "ended" and "failed".
#: "degraded": a job of it has ended; "lost": the scheduler that we ask does not know its jobs, and
#: nobody has seen them end (never written down: another shell's scheduler may know them).
LIVE_STATES = ("submitting", "starting", "ready", "degraded", "stopping", "lost")


@dataclass(frozen=True)
class RecordedBenchmark:
    """What a record says of a benchmark: its state, and the folder of its results."""

    state: str
    folder: Path | None


class Record:
    """One deployment's record. Each change is written at once and whole.

    What it holds is believed as it was written; what it holds beside that is kept.
    """

    def __init__(self, path: Path, facts: Facts) -> None:
        self.path = path
        self._facts = facts

    def as_json(self) -> Facts:
        """All of it, as programs get it."""
        return self._facts

    @property
    def id(self) -> str:
        """The deployment's id."""
        return str(self._facts["id"])

    @property
    def state(self) -> str:
        """Its state, as last written; the scheduler may know better."""
        return str(self._facts["state"])

    @property
    def live(self) -> bool:
        """Whether the record says that the deployment has not ended."""
        return self.state in LIVE_STATES

    @property
    def created(self) -> datetime:
        """When it was begun, with the time zone of then."""
        return datetime.fromisoformat(self._facts["created"])

    # --- what was asked for ---

    @property
    def recipe(self) -> object:
        """The recipe as JSON; hpc/recipe/reading.py makes one of it."""
        return self._facts["recipe"]

    @property
    def limit_s(self) -> float:
        """The jobs' time limit; infinite in a record of another version, which does not say it."""
        try:
            asked = part_of(part_of(self._facts["recipe"], "job"), "infrastructure")
            return parse_time(str(asked["time"]))
        except (LookupError, TypeError, ValueError):
            return math.inf

    @property
    def model(self) -> str:
        """The model that answers, as Ollama lists it."""
        return str(self._facts["model"])

    @property
    def gpus(self) -> int:
        """GPUs that were asked for, per node."""
        return int(self._facts["gpus"])

    @property
    def monitoring_parts(self) -> Sequence[str]:
        """The parts of the monitoring that were planned."""
        return self._facts["monitoring"]["parts"]

    @property
    def site(self) -> object:
        """The site profile as JSON; hpc/site.py makes one of it."""
        return self._facts["site"]

    @property
    def scheduler(self) -> str:
        """The scheduler that it was given to, by its name in the site profile."""
        return str(self._facts["site"]["scheduler"])

    @property
    def clusters(self) -> str:
        """The clusters that jobs were given to, "" when nobody named one."""
        return str((self._facts.get("settings") or {}).get("clusters") or "")

    @property
    def asks_for_tokens(self) -> bool:
        """Whether what it opens is for those alone who have its tokens."""
        return bool((self._facts.get("settings") or {}).get("security", "none") != "none")

    @property
    def controller(self) -> Mapping[str, str] | None:
        """The settings by which the same controller is reached again."""
        return self._facts.get("controller")

    @property
    def jobs(self) -> dict[str, str]:
        """Job ids (contracts/jobs/ids.py) by service, in the order of their submission."""
        jobs = self._facts["jobs"].items()
        return {service: join(str(job["id"]), job.get("cluster", "")) for service, job in jobs}

    @property
    def names(self) -> dict[str, str]:
        """The names that its jobs were submitted under, by their ids."""
        ids = self.jobs
        return {ids[service]: job.get("name", "") for service, job in self._facts["jobs"].items()}

    @property
    def job_states(self) -> Mapping[str, str]:
        """How each service's job was when somebody last looked; nothing when nobody did."""
        return self._facts.get("job_states") or {}

    @property
    def endpoints(self) -> Endpoints:
        """URLs by name."""
        return self._facts["endpoints"]

    @property
    def client(self) -> str | None:
        """URL of the client service; None as long as it is not ready."""
        at = self.endpoints["client"]
        return None if at is None else str(at)

    @property
    def engines(self) -> Sequence[str]:
        """URLs of the engine's replicas; none as long as they are not ready."""
        return [url for at in self.endpoints.values() if isinstance(at, list) for url in at]

    @property
    def replicas(self) -> Sequence[ReplicaFacts]:
        """What each replica has; nothing if there are not several on a node."""
        return self._facts.get("replicas", [])

    @property
    def warnings(self) -> Sequence[str]:
        """What is otherwise than asked for, a sentence each."""
        return self._facts.get("warnings", [])

    @property
    def benchmark(self) -> RecordedBenchmark | None:
        """The last one; None when there was none."""
        found = self._facts.get("benchmark")
        if not found:
            return None
        folder = text_of(found, "folder")
        return RecordedBenchmark(text_of(found, "state") or "", Path(folder) if folder else None)

    @property
    def batch(self) -> BatchFacts | None:
        """The batch that it works off; None if there is none."""
        return self._facts.get("batch")

    @property
    def chain(self) -> ChainFacts | None:
        """Of jobs that follow one another; None if there is one of each, or a batch."""
        return self._facts.get("chain")

    @property
    def checked(self) -> bool:
        """Whether the state is what the scheduler has said just now, or for good."""
        return self._facts.get("checked", True)

    @property
    def seconds_left(self) -> int | None:
        """Of its job that ends first, when the scheduler has said so just now."""
        return self._facts.get("seconds_left")

    # --- changes ---

    def note(self, **changes: Unpack[Facts]) -> None:
        """Change keys here alone, for as long as this process looks at the record."""
        self._facts.update(changes)

    def update(self, **changes: Unpack[Facts]) -> None:
        """Change keys, and write; what others wrote meanwhile is kept. Remove the tokens of what
        has ended."""
        try:
            self._facts = json.loads(self.path.read_text())
        except (OSError, ValueError):
            pass  # the first write; or somebody damaged the file, and ours is better
        self._facts.update(changes)
        write_atomically(self.path, json.dumps(self._facts, indent=2) + "\n")
        if not self.live:
            forget_tokens(self.path.parent.parent, self.id)

    def add_job(self, service: str, job_id: str, name: str = "") -> None:
        """Write down a submitted job."""
        self.update(jobs={**self._facts["jobs"], service: _job(job_id, name)})

    def adopt_job(self, service: str, job_id: str, name: str) -> None:
        """Note a job of ours, here alone, when the service has none."""
        self._facts["jobs"].setdefault(service, _job(job_id, name))

    def succeed(self, jobs: Mapping[str, str], facts: Facts | None = None) -> None:
        """Write down the jobs that have taken the place of others, which are not ready yet."""
        endpoints: Endpoints = {
            name: [] if isinstance(at, list) else None for name, at in self.endpoints.items()
        }
        entries = {name: _job(job_id, f"{self.id}.{name}") for name, job_id in jobs.items()}
        whole: Facts = {"jobs": entries, "endpoints": endpoints, "state": "starting"}
        whole.update(facts or {})
        self.update(**whole)

    def save_jobs(self) -> None:
        """Write down the jobs that were adopted."""
        self.update(jobs=self._facts["jobs"])


def _job(job_id: str, name: str) -> JobFacts:
    entry: JobFacts = {"id": number_of(job_id)}
    if cluster := cluster_of(job_id):
        entry["cluster"] = cluster
    if name:
        entry["name"] = name
    return entry


def create_record(output: Path, deployment_id: str, facts: Facts) -> Record:
    """Write the record of a new deployment, before anything is submitted."""
    created = datetime.now().astimezone().isoformat(timespec="microseconds")
    whole: Facts = {
        "id": deployment_id,
        "state": "submitting",
        "created": created,
        "jobs": {},
        "endpoints": {"client": None, "ollama": []},
        **facts,
    }
    record = Record(output / "deployments" / f"{deployment_id}.json", whole)
    record.update()
    return record


def load_records(output: Path) -> list[Record]:
    """All records of an output directory, newest last; files that are no record are left out."""
    found = []
    for path in (output / "deployments").glob("*.json"):
        try:
            record = Record(path, json.loads(path.read_text()))
            _ = record.state, record.jobs, record.scheduler, record.endpoints["ollama"]
            found.append((record.created.timestamp(), record.id, record))
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
