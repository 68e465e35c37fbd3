"""The recipe: what to deploy. Its sections, as frozen types."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from contracts.knobs import MAX_CLIENTS, MAX_REQUESTS, NumPredict
from contracts.load import RESERVED_THREADS, SERVING_THREADS, LoadPerClient
from contracts.validation import WHOLE
from hpc.recipe.values import Model, Name, Partitions, Text, TimeLimit
from hpc.times import parse_time
from retrieval.settings import (
    COLLECTION,
    DEFAULT_CHUNK_OVERLAP,
    DEFAULT_CHUNK_TOKENS,
    DEFAULT_TOP_K,
    MAX_TOP_K,
)

#: Every slot of Ollama has a KV cache of its own, so more slots cost memory linearly.
MAX_DEFAULT_PARALLEL = 8

#: The client service, which a benchmark with retrieval asks, has room for so many.
MAX_CLIENTS_WITH_RETRIEVAL = SERVING_THREADS - RESERVED_THREADS


class _Section(BaseModel):
    # Built when first used: of most sections only as a part of the whole.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, defer_build=True
    )


class Infrastructure(_Section):
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
        description="Ollama replicas, one per node; the client spreads requests over them.",
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
        "01:00:00",
        description="Time limit of the jobs, in any of Slurm's formats: `MM`, `MM:SS`, "
        "`HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`.",
    )


class Retrieval(_Section):
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
        description="Makes it a failure (exit code 4, before the benchmark) where any of "
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


class Served(_Section):
    """What is served."""

    type: Literal["inference"] = Field("inference", description="The kind of service.")
    model: Model = Field(
        description="Model: a name as Ollama takes it (`mistral:7b`, `someone/model`, "
        "`hf.co/USER/REPOSITORY:TAG`), or the path of a GGUF file (relative paths start at the "
        "recipe's folder). A path is what is the path of a file there, or begins with `/`, `./`, "
        "`../` or `~`."
    )
    precision: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=16)] | None = Field(
        None,
        description="Expected precision, such as `fp16` or `q4_0`. Compared with the quantisation "
        "that Ollama reports; a difference is a loud warning.",
    )
    require_precision: bool = Field(
        False, description="Makes a difference in precision a failure (exit code 4)."
    )
    allow_cpu: bool = Field(
        False,
        description="Where GPUs were asked for and the model does not sit on them: "
        "`false` fails (exit code 4), `true` warns.",
    )
    num_parallel: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Requests that Ollama works on at once (`OLLAMA_NUM_PARALLEL`). Default: "
        f"n_clients, at most {MAX_DEFAULT_PARALLEL}, since every slot has its own KV cache.",
    )
    num_thread: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Threads that Ollama computes with where a request does not say it "
        "(`options.num_thread`). Default: the cores that the replica has.",
    )
    context_length: int = Field(
        4096, ge=64, le=10_000_000, description="Context length in tokens, for each slot."
    )
    keep_alive: Annotated[str, Field(pattern=r"^(-1|[0-9]{1,6}[smh])$")] = Field(
        "-1",
        description="How long an unused model stays in memory (`OLLAMA_KEEP_ALIVE`); "
        "`-1` is for as long as the deployment lives.",
    )


class Service(LoadPerClient, Served):
    """What is served, and how it is measured: the knobs of `/benchmark`, some with defaults of a
    recipe's own."""

    EACH = 0

    n_requests_per_client: Annotated[int, Field(ge=0, le=MAX_REQUESTS), WHOLE] | None = Field(
        None,
        description="Requests of each client, one after another. 0, the default: no benchmark.",
    )
    prompt: Text | None = Field(
        None, description="What each request of the benchmark asks. Default: a built-in question."
    )
    num_predict: NumPredict | None = Field(
        64, description="Output tokens of each request of the benchmark, at most."
    )
    question: Text | None = Field(
        None, description="A question to ask once through `/query`; the answer is printed."
    )
    retrieval: Retrieval | None = Field(
        None, description="Answers from documents of one's own. Default: none."
    )

    @property
    def load(self) -> dict[str, Any]:
        """What is asked of `/benchmark`, by its keys; nothing where there is no benchmark."""
        if self.requests_planned == 0:
            return {}
        return self.model_dump(include=set(LoadPerClient.model_fields), exclude_none=True)

    @property
    def concurrency(self) -> int:
        """Requests in flight at once, as far as the recipe says it; of those that come at a rate as
        many as come in 10 s."""
        if self.rate is None:
            return self.n_clients or 1
        return self.max_concurrency or min(MAX_CLIENTS, math.ceil(self.rate * 10))

    @property
    def wanted_retrieval(self) -> Retrieval | None:
        """The section on retrieval, where it is there and enabled."""
        return self.retrieval if self.retrieval and self.retrieval.enabled else None

    @field_validator("retrieval")
    @classmethod
    def _fits(cls, value: Retrieval | None, info: ValidationInfo) -> Retrieval | None:
        """What a model is shown must fit into what it reads, and clients into the service."""
        context = info.data.get("context_length")
        if value and context and value.top_k * value.chunk_tokens >= context:
            raise ValueError(
                f"top_k x chunk_tokens is {value.top_k * value.chunk_tokens}, but must be less "
                f"than job.service.context_length ({context}), for question and answer"
            )
        for name in ("n_clients", "max_concurrency"):
            most = info.data.get(name) or 0
            if value and value.benchmark and most > MAX_CLIENTS_WITH_RETRIEVAL:
                raise ValueError(
                    f"benchmark goes with at most {MAX_CLIENTS_WITH_RETRIEVAL} clients, but "
                    f"job.service.{name} is {most}"
                )
        return value


class Monitoring(_Section):
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


class Job(_Section):
    """One deployment."""

    name: Name = Field("ollama", description="Name of the deployment; job names start with it.")
    infrastructure: Infrastructure = Field(
        default_factory=lambda: Infrastructure(), description="What is asked of the cluster."
    )
    service: Service = Field(description="What is served and how it is measured.")
    monitoring: Monitoring = Field(
        default_factory=lambda: Monitoring(),
        description="Prometheus, Grafana, Pushgateway and the exporters beside the services.",
    )


class Recipe(_Section):
    """A recipe of orch.py: one JSON file that brings up a service."""

    schema_: Annotated[str, Field(max_length=500)] | None = Field(
        None, alias="$schema", description="Where editors find this schema."
    )
    job: Job = Field(description="One deployment.")

    @property
    def time_seconds(self) -> int:
        """The jobs' time limit in seconds."""
        return parse_time(self.job.infrastructure.time)
