"""The recipe: what to deploy. Its sections, as frozen types."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from contracts.given_server import GivenServer
from contracts.json_object import JsonObject
from contracts.knobs import MAX_CLIENTS, MAX_REQUESTS, NumPredict
from contracts.load import LoadPerClient
from contracts.validation import WHOLE, SchemaAddress
from engines.servers.deployable import DEPLOYED
from hpc.recipe.idle import Idle
from hpc.recipe.notify import NOTIFY, Notify
from hpc.recipe.options import OPTIONS, EngineOptions
from hpc.recipe.sections import (
    LEVELS,
    MAX_CLIENTS_WITH_RETRIEVAL,
    MOST_SHARED,
    SHARE,
    STAGING,
    TLS,
    Access,
    Batch,
    Infrastructure,
    Monitoring,
    Retrieval,
    Section,
    Staging,
)
from hpc.recipe.values import EngineName, Model, Name, Shared, Text
from hpc.times import parse_time

#: Every slot of Ollama has a KV cache of its own, so more slots cost memory linearly.
MAX_DEFAULT_PARALLEL = 8


class Served(Section):
    """What is served."""

    type: Literal["inference"] = Field("inference", description="The kind of service.")
    model: Model = Field(
        description="Model: a name as Ollama takes it (`mistral:7b`, `someone/model`, "
        "`hf.co/USER/REPOSITORY:TAG`), or the path of a GGUF file (relative paths start at the "
        "recipe's folder); for vLLM a folder with config.json and *.safetensors, or a name of "
        "Hugging Face's hub. What is not there is looked for in the site's `model_store`. A path "
        "is what is the path of a file there, or begins with `/`, `./`, `../` or `~`."
    )
    engine: EngineName = Field(
        "ollama",
        description="What serves the model: `ollama`, `llama.cpp`'s own server, or `vllm` "
        "(docs/engines.md).",
    )
    precision: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=16)] | None = Field(
        None,
        description="Expected precision, such as `fp16` or `q4_0`. Compared with the quantisation "
        "that the engine reports; a difference is a loud warning. vLLM computes with `fp16`, "
        "`bf16` or `fp32` if that is asked for.",
    )
    require_precision: bool = Field(
        False, description="Makes a difference in precision a failure (exit code 4)."
    )
    allow_cpu: bool = Field(
        False,
        description="If GPUs were asked for and the model does not sit on them: "
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
        description="Threads that Ollama computes with if a request does not say it "
        "(`options.num_thread`). Default: the cores that the replica has.",
    )
    context_length: int = Field(
        4096, ge=64, le=10_000_000, description="Context length in tokens, for each slot."
    )
    require_fit: bool = Field(
        False,
        description="Refuses, before anything is submitted (exit code 2), a model that does not "
        "fit into the memory that is asked for, or of which that is not known; `false` warns of "
        "the one, and says the other (docs/memory.md).",
    )
    staging: Staging | None = Field(None, description=f"{STAGING} Default: the site's.")
    keep_alive: Annotated[str, Field(pattern=r"^(-1|[0-9]{1,6}[smh])$")] = Field(
        "-1",
        description="How long an unused model stays in memory (`OLLAMA_KEEP_ALIVE`); "
        "`-1` is for as long as the deployment lives.",
    )


class Server(GivenServer, Section):
    """A server that is measured, and that nobody starts here."""

    @field_validator("url")
    @classmethod
    def _is_one(cls, value: str, info: ValidationInfo) -> str:
        from engines.http.urls import BadUrl, parse  # most recipes have none

        try:
            parse(value, info.data.get("api", "openai"))
        except BadUrl as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("token_file")
    @classmethod
    def _whole(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("/", "~/")):
            raise ValueError("must begin with / or ~/")
        return value


_OF_OUR_OLLAMA = (
    *("precision", "num_parallel", "num_thread", "require_fit", "question", "retrieval"),
    *("through", "api", "staging", "batch", "idle_timeout"),
)
#: What would be measured while a batch is worked off.
_BESIDE_NO_BATCH = ("n_requests_per_client", "n_requests", "duration_seconds", "question")


class Service(LoadPerClient, EngineOptions, Idle, Served):
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
    batch: Batch | None = Field(
        None,
        description="A file of prompts that is worked off; then the deployment ends. Default: "
        "none.",
    )

    server: Server | None = Field(
        None,
        description="A server that is measured in place of an Ollama of the deployment's own. "
        "Nothing is started then but the client service, which measures it.",
    )

    @field_validator("server")
    @classmethod
    def _alone(cls, value: Server | None, info: ValidationInfo) -> Server | None:
        """What only an Ollama of our own can be told is not to be told to nobody."""
        default = cls.model_fields["engine"].default
        other = ["engine"] if info.data.get("engine", default) != default else []
        given = [*other, *(name for name in _OF_OUR_OLLAMA if info.data.get(name))]
        given += [name for name in OPTIONS if info.data.get(name) is not None]
        if value is not None and given:
            raise ValueError(f"does not go with job.service.{given[0]}, which is for an Ollama of "
                             "the deployment's own")  # fmt: skip
        return value

    @field_validator("batch")
    @classmethod
    def _works_off_alone(cls, value: Batch | None, info: ValidationInfo) -> Batch | None:
        other = next((name for name in _BESIDE_NO_BATCH if info.data.get(name)), None)
        if value is not None and other:
            raise ValueError(
                f"does not go with job.service.{other}: leave that out, or ask while it is worked "
                "off by --batch on a deployment without it"
            )
        return value

    @field_validator("*")
    @classmethod
    def _possible_for_the_engine(cls, value: object, info: ValidationInfo) -> object:
        """What an engine does not know is refused, unless it is what holds without saying."""
        name = str(info.field_name)
        engine = DEPLOYED[info.data.get("engine", cls.model_fields["engine"].default)]
        why = engine.cannot.get(name)
        if why and value != cls.model_fields[name].default:
            raise ValueError(f"does not go with {engine.title}: {why}")
        return value

    @property
    def load(self) -> JsonObject:
        """What is asked of `/benchmark`, by its keys; nothing if there is no benchmark."""
        if self.requests_planned == 0:
            return {}
        return self.model_dump(include=set(LoadPerClient.model_fields), exclude_none=True)

    @property
    def concurrency(self) -> int:
        """Requests in flight at once, as far as the recipe says it; of those that come at a rate as
        many as come in 10 s, and of a batch as many as an engine works on by default."""
        clients = self.n_clients or 1
        if self.rate is None:
            return MAX_DEFAULT_PARALLEL if self.batch and clients == 1 else clients
        return self.max_concurrency or min(MAX_CLIENTS, math.ceil(self.rate * 10))

    @property
    def wanted_retrieval(self) -> Retrieval | None:
        """The section on retrieval, if it is there and enabled."""
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
        for name in ("through", "api", "prompts"):
            if value and value.benchmark and info.data.get(name):
                raise ValueError(f"benchmark asks /query: job.service.{name} does not go with it")
        for name in ("n_clients", "max_concurrency"):
            most = info.data.get(name) or 0
            if value and value.benchmark and most > MAX_CLIENTS_WITH_RETRIEVAL:
                raise ValueError(
                    f"benchmark goes with at most {MAX_CLIENTS_WITH_RETRIEVAL} clients, but "
                    f"job.service.{name} is {most}"
                )
        return value


class Job(Section):
    """One deployment."""

    name: Name = Field("ollama", description="Name of the deployment; job names start with it.")
    infrastructure: Infrastructure = Field(
        default_factory=lambda: Infrastructure(), description="What is asked of the cluster."
    )
    service: Service = Field(description="What is served and how it is measured.")
    security: Access | None = Field(
        None, description=f"Who reaches the engines. {LEVELS} Default: the site's."
    )
    tls: bool | None = Field(None, description=f"{TLS} Default: the site's.")
    share: list[Shared] | None = Field(
        None,
        max_length=MOST_SHARED,
        description=f"{SHARE} Default: the site's; `[]`: nobody.",
    )
    notify: Notify | None = Field(
        None, description=f"{NOTIFY} Default: the site's; `{{}}`: nobody."
    )
    monitoring: Monitoring = Field(
        default_factory=lambda: Monitoring(),
        description="Prometheus, Grafana, Pushgateway and the exporters beside the services.",
    )


class Recipe(Section):
    """A recipe of orch.py: one JSON file that brings up a service."""

    schema_: SchemaAddress = None
    job: Job = Field(description="One deployment.")

    @property
    def time_seconds(self) -> int:
        """The jobs' time limit in seconds."""
        return parse_time(self.job.infrastructure.time)
