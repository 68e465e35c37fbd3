"""What orch.py must know of a service: each root module is the room of one, and has a `SERVICE`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.job_files import internal_token_file
from hpc.deployment import Deployment
from hpc.deployments.records import Record
from hpc.endpoints import OutputDir
from hpc.following.target import Target
from hpc.planning.plan import Plan
from hpc.recipe.reading import parse_recipe
from hpc.recipe.schema import Recipe

if TYPE_CHECKING:
    from hpc.deployments.facts import ModelFacts


class Launched:
    """A deployment whose jobs were submitted, as its record has it."""

    def __init__(self, record: Record, output: OutputDir) -> None:
        self.record = record
        self.output = output
        self.recipe: Recipe = parse_recipe(record.recipe, "the deployment's recipe")
        self.model = record.model

    @property
    def token_file(self) -> Path:
        """Where the token is that the deployment's own parts send, if it asks for one."""
        return internal_token_file(self.output.path, self.record.id)

    @property
    def client(self) -> str:
        """URL of the client service of a deployment that is, or was, ready."""
        return str(self.record.client)


def _no_facts() -> ModelFacts:
    return {}


@dataclass(frozen=True)
class Ready:
    """What a service that is ready adds to the deployment's record: URLs by the names of endpoints
    (Ollama's are a list), facts, and warnings; and `words` on it for people."""

    endpoints: Mapping[str, str | list[str]]
    facts: ModelFacts = field(default_factory=_no_facts)
    warnings: Sequence[str] = ()
    words: str = ""


def _always(_: object) -> bool:
    return True


def _no_notes(_: Launched) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Service:
    """A service: `name` is that of its job, its template and its logs.

    `set_up` renders and submits its job, and returns the job's id; `wanted` says whether a plan has
    one. `target` is what is waited for, `ready` what that has come to (it raises ServiceError when
    it is not what was asked for). `measured`: when it ends by itself in a benchmark, that is
    the benchmark's result. `notes`: what is printed
    behind its endpoints, by their names.
    """

    name: str
    set_up: Callable[[Deployment], str]
    target: Callable[[Launched], Target]
    ready: Callable[[Launched, Target], Ready]
    wanted: Callable[[Plan], bool] = _always
    measured: bool = False
    notes: Callable[[Launched], Mapping[str, str]] = _no_notes
