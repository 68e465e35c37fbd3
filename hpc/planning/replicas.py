"""How many replicas are on each node of the engine's job, and what each has of it."""

from __future__ import annotations

from contracts.errors import UsageError
from hpc.planning.parts import Given
from hpc.recipe.values import PER_GPU
from hpc.scheduler.resources import Resources


def plan_replicas(given: Given, gpus: int, resources: Resources) -> int:
    """Return the replicas of each node, which has `gpus` GPUs; note that, and their shares.

    Raises UsageError if the node cannot be divided by it.
    """
    count, source = _count(given, gpus)
    given.notes.add("replicas_per_node", count, source)
    if count > 1:
        _check(count, source, gpus, resources.cores)
        given.notes.add(
            "each_replica", _share(count, gpus, resources), "an equal part of what its node gives"
        )
    return count


def note_cores(given: Given, per_node: int, engine: Resources, client: Resources) -> None:
    """Note on which cores replicas, load generator and exporters sit, and why there."""
    here, add = given.kind.this_machine, given.notes.add
    whose = "this machine" if here else "its job on each node"
    count = f"the {engine.cores} of" if engine.cores else "all of"
    each = "" if per_node == 1 else ", each its own"
    add("cores_of_replicas", f"{count} {whose}{each}", "what the job may run on, once it has begun")
    if here:
        why = "this site gives jobs no cores of their own: what is measured shares them"
        add("cores_of_load", "the replicas'", why)
    else:
        add("cores_of_load", f"the {client.cores} of the client's job", "not the engine's job")
    add("cores_of_exporters", "the replicas'", "replicas have all: exporters yield (nice 10)")


def _count(given: Given, gpus: int) -> tuple[int, str]:
    """The number, and where it comes from. A site's "per_gpu" is for recipes that have GPUs."""
    at_site = given.site.replicas_per_node
    asked = given.recipe.job.infrastructure.replicas_per_node
    wanted, source = (at_site, "site") if asked is None else (asked, "recipe")
    if wanted is None or (wanted == PER_GPU and asked is None and not gpus):
        return 1, "default"
    if wanted != PER_GPU:
        return int(wanted), source
    if not gpus:
        raise UsageError(
            f'replicas_per_node is "{PER_GPU}", but no GPUs are asked for: say how many there are '
            "(infrastructure.gpus), or take a number of replicas."
        )
    return gpus, f"{source}: one for each GPU"


def _check(count: int, source: str, gpus: int, cores: int | None) -> None:
    """Raises UsageError."""
    asked = f"replicas_per_node is {count} ({source})"
    if gpus % count:
        raise UsageError(
            f"{asked}, but {gpus} GPU(s) per node cannot be shared out equally: take a number that "
            f'divides infrastructure.gpus, or "{PER_GPU}".'
        )
    if cores is not None and cores < count:
        raise UsageError(
            f"{asked}, but {cores} core(s) per node are not one for each: ask for more "
            "(infrastructure.cpus), or for fewer replicas."
        )


def _share(count: int, gpus: int, resources: Resources) -> str:
    cores, memory = resources.cores, resources.mem_gb
    parts = [
        f"{gpus // count} GPU(s)" if gpus else "",
        f"{_divided(cores, count)} core(s)" if cores else "",
        f"{memory / count:g} GiB" if memory else "",
    ]
    return ", ".join(filter(None, parts)) or "as many cores as any other"


def _divided(cores: int, count: int) -> str:
    least, most = cores // count, -(-cores // count)
    return str(least) if least == most else f"{least} to {most}"
