"""The sections of a recipe that stand for themselves, as frozen types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from contracts.load import RESERVED_THREADS, SERVING_THREADS
from hpc.recipe.values import (
    DEFAULT_TIME,
    FilePath,
    Model,
    Name,
    Partitions,
    ReplicasPerNode,
    TimeLimit,
    Until,
)
from retrieval.settings import (
    COLLECTION,
    DEFAULT_CHUNK_OVERLAP,
    DEFAULT_CHUNK_TOKENS,
    DEFAULT_TOP_K,
    MAX_TOP_K,
)

#: The client service, which a benchmark with retrieval asks, has room for so many.
MAX_CLIENTS_WITH_RETRIEVAL = SERVING_THREADS - RESERVED_THREADS


#: Who reaches what a deployment opens; docs/security.md says it.
Access = Literal["required", "token", "none"]
LEVELS = (
    "`required`: engines ask for the deployment's own token, and cannot be reached past that, or "
    "the deployment fails; `token`: the same, but if a node cannot keep an engine apart that is a "
    "warning; `none`: everybody on the network reaches the engines."
)
TLS = (
    "Whether the client service and the engines are asked by https, with certificates made for the "
    "deployment. What else its own parts say to each other is not encrypted (docs/security.md)."
)
SHARE = (
    "Users and groups who may log in with `orch.py --login ID` and get a token of their own: "
    '`["group:proj1", "user:abc"]`. By MUNGE, which is where Slurm is (docs/security.md).'
)
MOST_SHARED = 100
#: Whether models are copied to the node's own disk.
Staging = Literal["local", "none"]
STAGING = (
    "`local`: the model's files are copied to the node's own disk before it is loaded, once for "
    "all jobs of yours on a node, and removed by the last of them; `none`: it is loaded from where "
    "it is (docs/models.md)."
)
REPLICAS = (
    'Replicas on each node: a number, or `"per_gpu"` for one on each GPU. They share the node\'s '
    "GPUs, which must be divisible by it, its cores and its memory (docs/operations.md)."
)


class Section(BaseModel):
    # Built when first used: of most sections only as a part of the whole.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, defer_build=True
    )


class Infrastructure(Section):
    """What is asked of the cluster."""

    partition: Partitions | None = Field(
        None,
        description="Partition of the Ollama job, or several (`gpu,gpu_short`), of which Slurm "
        "takes the one that can start it first. Default: the site's GPU partition.",
    )
    client_partition: Partitions | None = Field(
        None,
        description="Partition, or several, of the client service's job. Default: the site's CPU "
        "partition.",
    )
    account: Name | None = Field(
        None, description="Account to charge (`--account`). Default: the site's, else Slurm's own."
    )
    qos: Name | None = Field(
        None, description="Quality of service (`--qos`). Default: the site's, else Slurm's own."
    )
    nodes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Nodes of the engine's job, each with one replica or several "
        "(`replicas_per_node`); the client spreads requests over them.",
    )
    replicas_per_node: ReplicasPerNode | None = Field(
        None,
        description=f"{REPLICAS} Default: the site's, else 1.",
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs per node. Default: 1 in one of the site's GPU partitions, else 0.",
    )
    cpus: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU cores per node for Ollama. Default: 8 for each GPU, 16 without GPUs, "
        "at most what the partition's nodes have.",
    )
    mem_gb: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Memory per Ollama node in GiB (`--mem`). Default: what the partition gives.",
    )
    time: TimeLimit = Field(
        DEFAULT_TIME,
        description="Time limit of the jobs, in any of Slurm's formats: `MM`, `MM:SS`, "
        "`HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`. Beyond the limit of the partition: for so "
        "long jobs of that limit follow one another (docs/handover.md).",
    )
    until: Until | None = Field(
        None,
        description="Until when jobs of `time` follow one another, each handing over to the next: "
        'a local time, as in `"2026-12-24T08:00"`, or `"stopped"`: until somebody stops it '
        "(docs/handover.md). Default: one job, if its partition lets it be as long as `time`.",
    )
    max_jobs: int | None = Field(
        None, ge=1, le=10_000, description="Jobs that follow one another, at most."
    )
    gpu_hours: float | None = Field(
        None,
        gt=0,
        le=10_000_000,
        description="GPU-hours that jobs which follow one another may take, at most; each counts "
        "with all of its time limit.",
    )


class Retrieval(Section):
    """Answers from documents of one's own: see docs/retrieval.md."""

    enabled: bool = Field(True, description="`false` leaves all of this out.")
    collection: Annotated[str, Field(pattern=f"^{COLLECTION}$")] = Field(
        "documents",
        description="Name of the collection, and of its folder in `output/qdrant_storage/`. It "
        "outlives the deployment, and is found again by its name.",
    )
    embedding_model: Model = Field(
        "nomic-embed-text",
        description="Model that makes the vectors: a name or a path, as `model` is. It may be the "
        "deployment's own model, but one made for it finds better.",
    )
    documents: list[Annotated[str, Field(min_length=1, max_length=4096)]] = Field(
        default_factory=list,
        max_length=1000,
        description="Files and folders that are ingested once all is ready (relative paths start "
        "at the recipe's folder): text, Markdown, JSONL and PDF.",
    )
    required: bool = Field(
        False,
        description="Makes it a failure (exit code 4, before the benchmark) if any of "
        "`documents` is left out or their ingest breaks off. Else that is a warning.",
    )
    top_k: int = Field(
        DEFAULT_TOP_K, ge=1, le=MAX_TOP_K, description="Chunks that a question is answered from."
    )
    chunk_tokens: int = Field(
        DEFAULT_CHUNK_TOKENS, ge=16, le=8192, description="Tokens of a chunk, at most."
    )
    chunk_overlap: int = Field(
        DEFAULT_CHUNK_OVERLAP,
        ge=0,
        le=4096,
        description="Tokens at the end of a chunk that the next one repeats, at most.",
    )
    cpus: int = Field(2, ge=1, le=1024, description="CPU cores of Qdrant's job.")
    mem_gb: int = Field(4, ge=1, le=100_000, description="Memory of Qdrant's job in GiB.")
    benchmark: bool = Field(
        False,
        description="Whether the benchmark asks with retrieval, and measures its steps; n_clients "
        f"is then at most {MAX_CLIENTS_WITH_RETRIEVAL}.",
    )

    @field_validator("chunk_overlap")
    @classmethod
    def _less_than_half(cls, value: int, info: ValidationInfo) -> int:
        tokens = info.data.get("chunk_tokens", 8192)
        if value > tokens // 2:
            raise ValueError(f"must be at most half of chunk_tokens ({tokens})")
        return value


class Batch(Section):
    """A file of prompts that the deployment works off, and then ends: see docs/batch.md."""

    input: FilePath = Field(
        description="The file of the prompts, one a line: batch lines as OpenAI has them, "
        '`{"prompt": "..."}`, or plain text. Relative paths start at the folder of the recipe.',
    )
    output: FilePath | None = Field(
        None,
        description="The file of the answers. Default: the input's name with `.out` before its "
        "ending. What is answered there already is not asked again.",
    )
    max_jobs: int = Field(
        10,
        ge=1,
        le=1000,
        description="Jobs that one after another work on it, at most: each submits the next one "
        "before its time limit comes.",
    )
    continue_: bool = Field(
        True,
        alias="continue",
        description="`false`: the time limit ends it, and the same command goes on with it.",
    )


class Monitoring(Section):
    """Prometheus, Grafana, Pushgateway and the exporters beside the services."""

    enabled: bool = Field(
        True, description="`false` starts none of it and needs none, as `--no-monitoring` does."
    )
    required: bool = Field(
        False,
        description="Makes a part that cannot be had an error (exit code 2) before anything is "
        "submitted, and a part that fails a failure (exit code 4). Else the rest comes up.",
    )
    retention_days: int = Field(
        15, ge=1, le=3650, description="Days that Prometheus keeps what it has measured."
    )
    retention_gb: int = Field(
        2, ge=1, le=10_000, description="GB on disk beyond which Prometheus drops its oldest data."
    )
