"""The kinds of values in a recipe or site profile, and what makes one right."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from contracts.knobs import MAX_PROMPT_BYTES
from engines.names import BadName, parse
from engines.servers.deployable import DEPLOYED
from hpc.times import parse_time


def _check_time(text: str) -> str:
    parse_time(text)
    return text


def _check_model(text: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("must be a name or a path without control characters")
    if looks_like_path(text):
        return text
    try:
        parse(text)
    except BadName as error:
        raise ValueError(
            "must be a model's name in Ollama (such as mistral:7b-instruct-fp16) or the path of a "
            f".gguf file, with ./ before it if it is a relative one: {error}"
        ) from error
    return text


def _check_path(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be a path without control characters")
    return text


def _check_text(text: str) -> str:
    if "\0" in text or not text.strip():
        raise ValueError("must be text: not blank, and without NUL characters")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PROMPT_BYTES:
        raise ValueError(f"must be at most {MAX_PROMPT_BYTES} bytes of UTF-8")
    return text


def is_model_path(model: str) -> bool:
    """Whether the model of a recipe that was loaded is a file, by its absolute path."""
    return model.startswith("/")


def looks_like_path(model: str) -> bool:
    """Whether a text can mean a file alone. One with a tag is a name, also if that is a file's,
    as Hugging Face writes it: hf.co/USER/REPOSITORY:FILE.gguf."""
    last = model.rpartition("/")[2]
    file = last.lower().endswith(".gguf") and ":" not in last
    return file or model.startswith(("/", "./", "../", "~"))


def one_of(value: object, registered: Collection[str]) -> object:
    """`value`, if it is registered by now; else refuse it in the words of a closed choice."""
    if value not in list(registered):
        *others, last = map(repr, registered)
        expected = f"{', '.join(others)} or {last}"
        raise PydanticCustomError("literal_error", "must be {expected}", {"expected": expected})
    return value


#: In place of a time: as long as nobody stops it.
STOPPED = "stopped"
#: The time limit of a job if the recipe does not say it.
DEFAULT_TIME = "01:00:00"


def moment(text: str) -> float:
    """Return the seconds since 1970 of a local time, as sbatch has it. Raises ValueError, also for
    a year that no clock gets to."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M").timestamp()


def _check_until(text: str) -> str:
    if text != STOPPED:
        try:
            moment(text)
        except ValueError:
            raise ValueError('must be a time like "2026-12-24T08:00", or "stopped"') from None
    return text


def _check_share(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind not in ("user", "group") or not name or not name.isprintable() or set(name) & set(":/"):
        raise ValueError('must be "user:NAME" or "group:NAME"')
    return text


def _check_replicas(value: object) -> object:
    """In words for both of its kinds at once."""
    if value != PER_GPU and (type(value) is not int or value < 1):
        raise PydanticCustomError(
            "replicas", 'must be a whole number of 1 or more, or "{word}"', {"word": PER_GPU}
        )
    return value


#: In place of a number of replicas: as many as there are GPUs.
PER_GPU = "per_gpu"
ReplicasPerNode = Annotated[
    int | Literal["per_gpu"],
    BeforeValidator(_check_replicas),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": PER_GPU}]}),
]

# What Slurm's names are made of. Everything else is refused, so that a name is a name everywhere:
# in a directive, in a file name and on a command line.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
# One partition or several: "gpu,gpu_short" is the first of them that can start the job.
NAMES_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(,[A-Za-z0-9_][A-Za-z0-9._-]{0,63})*$"
Partitions = Annotated[str, Field(pattern=NAMES_PATTERN, max_length=512)]
TimeLimit = Annotated[str, Field(max_length=32), AfterValidator(_check_time)]
Until = Annotated[str, Field(max_length=32), AfterValidator(_check_until)]
Model = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_model)]
FilePath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_path)]
EngineName = Annotated[
    str,
    BeforeValidator(lambda value: one_of(value, DEPLOYED)),
    WithJsonSchema({"enum": list(DEPLOYED), "type": "string"}),
]
#: Who may log in: "user:NAME" or "group:NAME".
Shared = Annotated[str, Field(max_length=256), AfterValidator(_check_share)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_BYTES), AfterValidator(_check_text)]
