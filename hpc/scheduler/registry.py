"""Which schedulers there are: the one place that names them all."""

from __future__ import annotations

from collections.abc import Callable

from contracts.errors import UsageError
from hpc.scheduler.kind import Kind


def _slurm() -> Kind:
    from hpc.scheduler.slurm.kind import SlurmKind

    return SlurmKind()


def _local() -> Kind:
    from hpc.scheduler.local.kind import LocalKind

    return LocalKind()


#: Each by what a site profile calls it. If no site is named, the profile of that name counts
#: whose scheduler is the first one present: a further scheduler goes before "local".
SCHEDULERS: dict[str, Callable[[], Kind]] = {"slurm": _slurm, "local": _local}


def kind_of(name: str) -> Kind:
    """The scheduler of that name. Raises UsageError if there is none."""
    if name not in SCHEDULERS:
        raise UsageError(f"there is no scheduler {name!r}; there are: {', '.join(SCHEDULERS)}.")
    return SCHEDULERS[name]()


def present() -> str:
    """The name of the first scheduler that can be used on this host."""
    return next(name for name in SCHEDULERS if kind_of(name).present())
