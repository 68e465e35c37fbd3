"""What the file of a deployment's record holds, by its keys; a record has most of them only once
they are known. Records that others have written may have further ones. It is for mypy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from contracts.json_object import JsonObject

#: By name; the replicas of a service have a list, and one that is not ready yet has None.
Endpoints = dict[str, "str | list[str] | None"]


class JobFacts(TypedDict, total=False):
    """A job: its number, the cluster that took it (when sbatch named one), and its name."""

    id: str
    cluster: str
    name: str


class GpuFacts(TypedDict, total=False):
    """GPUs of a job, each of them once."""

    gpu_names: list[str]
    driver_versions: list[str]


class ReplicaFacts(TypedDict):
    """A replica of several on a node: what it has there, as taskset takes CPUs, and as a variable
    of its vendor's takes GPUs; "" if it shares the job's CPUs, or has no GPU."""

    url: str
    node: str
    cpus: str
    gpus: str


class LoadingFacts(TypedDict):
    """How a replica has loaded its model. `source`: "file", "own" (fetched before), "store" or
    "registry"; `path`: where it was read from, `staged`: the copy of it on the node's own disk, of
    which this replica has copied `copied_bytes`: 0 if another one had; `sha256`: of its file, or
    of the list of those of its files, as it was copied. MB are 10^6 bytes."""

    source: str
    path: str
    bytes: int
    sha256: str | None
    staged: str | None
    copied_bytes: int
    copy_seconds: float | None
    copy_mb_per_s: float | None
    load_seconds: float | None
    load_mb_per_s: float | None


class ImageFacts(TypedDict):
    """A container image; `sha256` is None when nobody has computed it, `changed` is in UTC."""

    path: str
    sha256: str | None
    bytes: int
    changed: str


class MonitoringFacts(TypedDict):
    """Parts of the monitoring that were planned, and a sentence on each that cannot be had."""

    parts: list[str]
    missing: list[str]


class BatchFacts(TypedDict, total=False):
    """A batch that the deployment works off: its files; how far it is (batch/state.py; `state` is
    "waiting" before it has begun); which job of at most how many works on it, and all of them so
    far, by service."""

    input: str
    output: str
    state: str
    total: int
    completed: int
    failed: int
    problem: str | None
    job: int
    max_jobs: int
    jobs: list[dict[str, str]]


class ChainFacts(TypedDict, total=False):
    """Jobs that follow one another: which of them are the deployment's now, of at most how many,
    and until when (hpc/planning/chain.py)."""

    job: int
    max_jobs: int | None
    until: int | None
    lasts_s: int | None


class ModelFacts(GpuFacts, total=False):
    """What is known once a service is ready: what it says of its model, its GPUs, its replicas if
    several are on a node, how they have loaded it, and the SHA-256 of the client service's
    certificate if that speaks TLS."""

    certificate_sha256: str
    replicas: list[ReplicaFacts]
    loading: list[LoadingFacts]
    loaded_model: Mapping[str, str | int | None]


class PlaceFacts(TypedDict, total=False):
    """Node and image of each service; without containers there are no images."""

    nodes: dict[str, str | None]
    images: dict[str, ImageFacts]


class Facts(ModelFacts, PlaceFacts, total=False):
    """All of a record. `recipe`, `site`, `settings`, `ingest` and `benchmark` are as those who make
    them write them, `idle` is as contracts.job_files.IdleState has it; `checked`, `seconds_left`,
    `idle`, `not_told` and `handover` (client/handover/state.py) are of the moment, and in no
    file."""

    id: str
    state: str
    created: str
    jobs: dict[str, JobFacts]
    endpoints: Endpoints
    recipe: JsonObject
    site: JsonObject
    model: str
    embedding_model: str | None
    gpus: int
    monitoring: MonitoringFacts
    settings: JsonObject
    controller: Mapping[str, str] | None
    ready_after_seconds: float
    warnings: list[str]
    ingest: JsonObject
    benchmark: JsonObject
    batch: BatchFacts
    chain: ChainFacts
    handover: JsonObject | None
    job_states: Mapping[str, str]
    error: str
    ended: str
    checked: bool
    idle: JsonObject | None
    not_told: list[str]
    seconds_left: int | None
