"""What a plan is made of."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.errors import UsageError
from hpc.recipe.schema import Recipe
from hpc.scheduler.interface import Partition, Setting
from hpc.scheduler.kind import Kind
from hpc.scheduler.resources import Resources
from hpc.site import Site

#: One core of the load generator holds about 256 streams at true figures; we plan for half.
STREAMS_PER_CORE = 128
MAX_CLIENT_CPUS = 16


@dataclass(frozen=True)
class JobPlan:
    """The job of a service, and what it asks the scheduler for."""

    service: str
    resources: Resources


#: Makes a job that needs no GPU: service, CPU cores, GiB.
MakeJob = Callable[[str, int, int], JobPlan]


class Notes:
    """Collects settings while they are decided. `directives`: what the site's directives say, by
    option; `exported`: what the user's environment asks for."""

    def __init__(self, directives: Mapping[str, str], exported: Mapping[str, Setting]) -> None:
        self.settings: list[Setting] = []
        self._directives = directives
        self._exported = exported

    def directive(self, option: str) -> tuple[object, str]:
        """The choice that the site's directives make; None if there is none."""
        return self._directives.get(option), "site: directives"

    def variable(self, option: str) -> tuple[object, str]:
        """The choice that a variable makes; None if there is none, or a directive makes it."""
        found = self._exported.get(option)
        if found is None or option in self._directives:
            return None, ""
        return found.value, found.source

    def add(self, name: str, value: object, source: str) -> object:
        self.settings.append(Setting(name, value, source))
        return value

    def first(self, name: str, *choices: tuple[object, str]) -> object:
        """Note and return the first choice that is not None."""
        for value, source in choices:
            if value is not None:
                return self.add(name, value, source)
        return self.add(name, None, "the scheduler's default")


@dataclass(frozen=True)
class Given:
    """What resources are decided by; `notes` has the decisions."""

    recipe: Recipe
    site: Site
    kind: Kind
    partitions: Sequence[Partition]
    notes: Notes


def client_cpus(concurrency: int) -> int:
    """CPU cores of the client's job: one to serve, one for each 128 concurrent streams.

    Serving and measuring must not share a core, or the one would delay the other's clock.
    """
    return min(MAX_CLIENT_CPUS, 1 + math.ceil(concurrency / STREAMS_PER_CORE))


def planned_gpus(given: Given, default: tuple[int, str]) -> int:
    """Note and return the GPUs of each of the engine's nodes.

    Raises UsageError if some are asked for at a site that has none.
    """
    asked = given.recipe.job.infrastructure.gpus
    if given.site.gpu_vendor == "none":
        default = (0, "site: gpu_vendor")
        if asked:
            raise UsageError(
                f"job.infrastructure.gpus is {asked}, but there are no GPUs at the site "
                f'{given.site.name} (its gpu_vendor is "none"): '
                "ask for 0, or name the vendor there."
            )
    return whole_number(given.notes.first("gpus", (asked, "recipe"), default))


def whole_number(value: object) -> int:
    if not isinstance(value, int):
        raise UsageError(f"{value!r} is not a whole number")
    return value


#: For how long nothing is found or stored when the jobs change.
PAUSE = "seconds at each hand-over (503 with Retry-After)"


def plan_qdrant(
    recipe: Recipe, site: Site, make: MakeJob, notes: Notes, follows: bool
) -> JobPlan | None:
    """The job of Qdrant's server, if there is retrieval and a server to be had; whether another one
    `follows` it, to which it hands the storage over."""
    retrieval = recipe.job.service.wanted_retrieval
    if retrieval is None:
        return None
    if site.runtime == "host" and not (site.modules or shutil.which("qdrant")):
        why = "there is no qdrant on PATH"
    elif site.runtime != "host" and site.images.qdrant is None:
        why = "the site profile names no image (images.qdrant)"
    else:
        notes.add("qdrant", "a job of its own", "what can be had here")
        if follows:
            notes.add("retrieval_pauses", PAUSE, "one server at a time opens the storage")
        return make("qdrant", retrieval.cpus, retrieval.mem_gb)
    notes.add("qdrant", "in the client service", why)
    return None
