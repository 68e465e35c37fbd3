"""The recipe: what to deploy. Parsed once, at the edge, into frozen types."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from hpc.errors import UsageError
from hpc.files import read_json_strictly
from hpc.timelimit import parse_time
from retrieval.documents import find_files
from retrieval.errors import NoDocuments
from retrieval.settings import (
    COLLECTION,
    DEFAULT_CHUNK_OVERLAP,
    DEFAULT_CHUNK_TOKENS,
    DEFAULT_TOP_K,
    MAX_TOP_K,
)

#: Every slot of Ollama has a KV cache of its own, so more slots cost memory linearly.
MAX_DEFAULT_PARALLEL = 8

#: More than this is a slip of the pen; the client service has the same bound.
MAX_REQUESTS = 1_000_000

#: The client service, which a benchmark with retrieval asks, has room for so many.
MAX_CLIENTS_WITH_RETRIEVAL = 60

DEFAULT_PROMPT = "Explain in three sentences what a supercomputer is used for."


def _check_time(text: str) -> str:
    parse_time(text)
    return text


def _check_model(text: str) -> str:
    if is_model_path(text):
        if any(ord(char) < 32 for char in text):
            raise ValueError("must be a path without control characters")
        return text
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}", text) or ".." in text:
        raise ValueError(
            "must be a model's name in Ollama (such as mistral:7b-instruct-fp16) "
            "or the path of a .gguf file"
        )
    return text


def _check_text(text: str) -> str:
    if "\0" in text or not text.strip():
        raise ValueError("must be text: not blank, and without NUL characters")
    return text


def is_model_path(model: str) -> bool:
    """Whether a recipe's model names a GGUF file rather than a model of Ollama's library."""
    return model.lower().endswith(".gguf")


# What Slurm's names are made of. Everything else is refused, so that a name is a name everywhere:
# in a directive, in a file name and on a command line.
_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=_NAME, max_length=64)]
TimeLimit = Annotated[str, Field(max_length=32), AfterValidator(_check_time)]
Model = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_model)]
Text = Annotated[str, Field(min_length=1, max_length=1_000_000), AfterValidator(_check_text)]


_Kind = TypeVar("_Kind", bound=BaseModel)


class _Section(BaseModel):
    # Built when first used: of most sections only as a part of the whole.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, defer_build=True
    )


class Infrastructure(_Section):
    """What is asked of the cluster."""

    partition: Name | None = Field(
        None,
        description="Partition of the Ollama job. Default: the site's GPU partition.",
    )
    client_partition: Name | None = Field(
        None,
        description="Partition of the client service's job. Default: the site's CPU partition.",
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
        description="Model that makes the vectors: a name of Ollama's library, or the path of a "
        "`.gguf` file. It may be the deployment's own model, but one made for it finds better.",
    )
    documents: list[Annotated[str, Field(min_length=1, max_length=4096)]] = Field(
        default_factory=list,
        max_length=1000,
        description="Files and folders that are ingested once all is ready (relative paths start "
        "at the recipe's folder): text, Markdown, JSONL and PDF.",
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


class Service(_Section):
    """What is served and how it is measured."""

    type: Literal["inference"] = Field("inference", description="The kind of service.")
    model: Model = Field(
        description="Model: a name of Ollama's library, or the path of a `.gguf` file "
        "(relative paths start at the recipe's folder)."
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
    context_length: int = Field(
        4096, ge=64, le=10_000_000, description="Context length in tokens, for each slot."
    )
    keep_alive: Annotated[str, Field(pattern=r"^(-1|[0-9]{1,6}[smh])$")] = Field(
        "-1",
        description="How long an unused model stays in memory (`OLLAMA_KEEP_ALIVE`); "
        "`-1` is for as long as the deployment lives.",
    )
    n_clients: int = Field(
        1, ge=1, le=10_000, description="Concurrent clients of the benchmark, all at once."
    )
    n_requests_per_client: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Requests that each client sends, one after another. 0: no benchmark.",
    )
    prompt: Text = Field(DEFAULT_PROMPT, description="Prompt of the benchmark.")
    num_predict: int = Field(
        64, ge=1, le=32_768, description="Tokens asked for in each benchmark request, at most."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the benchmark's requests.")
    warmup: int = Field(
        1, ge=0, le=10_000, description="Requests before the measurement that do not count."
    )
    question: Text | None = Field(
        None, description="A question to ask once through `/query`; the answer is printed."
    )
    retrieval: Retrieval | None = Field(
        None, description="Answers from documents of one's own. Default: none."
    )

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
        clients = info.data.get("n_clients", 1)
        if value and value.benchmark and clients > MAX_CLIENTS_WITH_RETRIEVAL:
            raise ValueError(
                f"benchmark goes with at most {MAX_CLIENTS_WITH_RETRIEVAL} clients, but "
                f"job.service.n_clients is {clients}"
            )
        return value

    @field_validator("n_requests_per_client")
    @classmethod
    def _bounded(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("n_clients", 1) * value > MAX_REQUESTS:
            raise ValueError(
                f"n_clients x n_requests_per_client must be at most {MAX_REQUESTS} requests"
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
    def total_requests(self) -> int:
        """Requests of the whole benchmark; 0 when the recipe asks for none."""
        return self.job.service.n_clients * self.job.service.n_requests_per_client

    @property
    def time_seconds(self) -> int:
        """The jobs' time limit in seconds."""
        return parse_time(self.job.infrastructure.time)


def load_recipe(path: Path) -> Recipe:
    """Read, check and normalise the recipe at `path`.

    Models given as paths are made absolute and must be readable GGUF files; so are documents, and
    must exist. Raises UsageError with every error of the file, each with its JSON path.
    """
    data = read_json_strictly(path, "recipe")
    recipe = parse_recipe(data, f"recipe {path}")
    service = recipe.job.service
    found: dict[str, Any] = {"model": _model_at(service.model, path, "job.service.model")}
    if service.wanted_retrieval:
        found["retrieval"] = _with_paths(service.wanted_retrieval, path)
    service = service.model_copy(update=found)
    return recipe.model_copy(update={"job": recipe.job.model_copy(update={"service": service})})


def _with_paths(retrieval: Retrieval, recipe: Path) -> Retrieval:
    key = "job.service.retrieval"
    embedding = _model_at(retrieval.embedding_model, recipe, f"{key}.embedding_model")
    documents = [_path_at(document, recipe) for document in retrieval.documents]
    wrong = [f"{key}.documents: {problem}" for path in documents if (problem := _no_files(path))]
    if wrong:
        _refuse(recipe, wrong)
    return retrieval.model_copy(
        update={"embedding_model": embedding, "documents": [str(path) for path in documents]}
    )


def _no_files(path: Path) -> str | None:
    try:
        find_files([path])
    except NoDocuments as error:
        return str(error)
    return None


def _path_at(text: str, recipe: Path) -> Path:
    """An absolute path; a relative one starts at the recipe's folder."""
    return (recipe.parent / Path(text).expanduser()).resolve()


def _model_at(model: str, recipe: Path, key: str) -> str:
    """`model`, or the absolute path of its file, which must be a GGUF file."""
    if not is_model_path(model):
        return model
    path = _path_at(model, recipe)
    _check_gguf(path, recipe, key)
    return str(path)


def parse_recipe(data: object, what: str = "recipe") -> Recipe:
    """The recipe that `data` (parsed JSON) describes. Raises UsageError with all errors."""
    return validate(Recipe, data, what)


def _check_gguf(model: Path, recipe: Path, key: str) -> None:
    try:
        with model.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        _refuse(recipe, [f"{key} = {str(model)!r}: cannot be read: {error.strerror}"])
    if magic != b"GGUF":
        _refuse(recipe, [f"{key} = {str(model)!r}: is not a GGUF file"])


def _refuse(recipe: Path, lines: list[str]) -> NoReturn:
    raise UsageError(f"recipe {recipe} is not valid: {_count(lines)}", lines)


def _count(lines: list[str]) -> str:
    return f"{len(lines)} error" + ("s" if len(lines) > 1 else "")


def ollama_name(model: str) -> str:
    """The name under which Ollama knows a recipe's model.

    A file's name gets a tag made from its path, size and time of change, so that two files of one
    name, or two versions of one file, never pass for each other.
    """
    if not is_model_path(model):
        return model
    path = Path(model)
    stat = path.stat()
    stamp = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    stem = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._") or "model"
    return f"{stem[:60]}:{hashlib.sha256(stamp.encode()).hexdigest()[:8]}"


def models_of(recipe: Recipe) -> list[str]:
    """The models of a recipe as it names them: the one that answers, and the one that embeds."""
    service = recipe.job.service
    return [service.model, *([r.embedding_model] if (r := service.wanted_retrieval) else [])]


def full_model_name(name: str) -> str:
    """`name` with the tag that Ollama adds where none is given."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


# --- errors in words -----------------------------------------------------------------------------


def validate(kind: type[_Kind], data: object, what: str) -> _Kind:
    """`data` as a `kind` (a pydantic model). Raises UsageError listing every error."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_explain(kind, item) for item in error.errors(include_url=False)]
        raise UsageError(f"{what} is not valid: {_count(lines)}", lines) from error


def _explain(kind: Any, error: Any) -> str:
    location = error["loc"]
    # An alternative of a union ("str", "nullable") is pydantic's business, not the user's.
    path = ".".join(str(part) for part in location) or "(the whole file)"
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(kind, location)}"
    if error["type"] == "missing":
        return f"{path}: is missing"
    return f"{path} = {_shorten(error['input'])}: {_requirement(error)}"


def _requirement(error: Any) -> str:
    words = {
        "string_pattern_mismatch": "must match the pattern {pattern}",
        "greater_than_equal": "must be at least {ge}",
        "less_than_equal": "must be at most {le}",
        "int_type": "must be a whole number",
        "list_type": "must be a list",
        "bool_type": "must be true or false",
        "string_type": "must be a string",
        "literal_error": "must be {expected}",
        "model_type": "must be an object",
        "string_too_long": "must be at most {max_length} characters long",
        "string_too_short": "must not be empty",
        "value_error": "{error}",
    }
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] == _NAME:
        return "must be made of letters, digits, '.', '_' and '-', and not start with '-' or '.'"
    template = words.get(error["type"])
    if template is None:
        return str(error["msg"])
    return template.format(**error.get("ctx", {}))


def _shorten(value: object, limit: int = 60) -> str:
    text = ascii(value) if not isinstance(value, (dict, list)) else type(value).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _suggestion(kind: Any, location: tuple[Any, ...]) -> str:
    """The same key elsewhere, else the nearest one: in the same object first, then anywhere."""
    import difflib  # not for recipes that are right

    wrong = str(location[-1])
    known = list(key_paths(kind))
    for path in known:
        if path.rpartition(".")[2] == wrong:
            return f"; did you mean {path}?"
    parent = ".".join(str(part) for part in location[:-1])
    here = [path for path in known if path.rpartition(".")[0] == parent]
    for candidates in (here, known):
        names = {path.rpartition(".")[2].lower(): path for path in reversed(candidates)}
        match = difflib.get_close_matches(wrong.lower(), names, n=1, cutoff=0.6)
        if match:
            return f"; did you mean {names[match[0]]}?"
    allowed = ", ".join(path.rpartition(".")[2] for path in here)
    return f"; known here: {allowed}" if allowed else ""


def key_paths(kind: Any, prefix: str = "") -> Iterator[str]:
    """The JSON path of every key that `kind` knows, outer keys first."""
    for name, field in kind.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from key_paths(part, f"{path}.")
