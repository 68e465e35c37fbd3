"""Settings of Slurm in the environment: what of them counts, and what each command is given.

docs/sites.md has the same as a table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from contracts.errors import UsageError
from hpc.scheduler.interface import Exported, Setting

#: Which controller is asked: a record has them, so that a later command asks the same one.
_CONTROLLER = ("SLURM_CONF", "SLURM_CONF_SERVER")
#: How one reaches it and proves who one is; passed on as they are.
_KEPT = {*_CONTROLLER, "SLURM_JWT", "SLURM_SACK_KEY", "SLURM_SACK_JWKS"}
#: Options of sbatch that are honoured if neither recipe nor site names them; their variables.
HONOURED = {
    "partition": ("SBATCH_PARTITION",),
    "account": ("SBATCH_ACCOUNT",),
    "qos": ("SBATCH_QOS",),
    "clusters": ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"),
    "reservation": ("SBATCH_RESERVATION",),
    "constraint": ("SBATCH_CONSTRAINT",),
    "wckey": ("SBATCH_WCKEY",),
}
#: Those of them that no key of recipe or site is for.
FURTHER = tuple(option for option in HONOURED if option not in ("partition", "account", "qos"))
_PREFIXES = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SALLOC_")
#: What Slurm sets in a job, which says nothing about others: no setting of the user's.
_OF_THE_JOB = ("SLURM_", "SALLOC_", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND")


def exported() -> Exported:
    """What the user's environment asks of Slurm, and the variables that are left out.

    Raises UsageError for a value that fits on no line of a script.
    """
    chosen = {option: setting for option in HONOURED if (setting := _first_of(option))}
    known = _KEPT.union(*HONOURED.values())
    others = {name for name in os.environ if name.startswith(_PREFIXES)} - known
    if "SLURM_JOB_ID" in os.environ:
        others = {name for name in others if not name.startswith(_OF_THE_JOB)}
    return Exported(chosen, tuple(sorted(others)))


def _first_of(option: str) -> Setting | None:
    for name in HONOURED[option]:
        value = os.environ.get(name, "").strip()
        if not value.isprintable():
            raise UsageError(
                f"${name} is {value[:80]!r}, which does not fit on a line; correct it."
            )
        if value:
            return Setting(option, value, f"${name}")
    return None


def controller() -> dict[str, str]:
    """The settings that say which controller is asked."""
    return {name: os.environ[name] for name in _CONTROLLER if os.environ.get(name)}


def seconds_of_this_job() -> int | None:
    """The time limit of the job that we run in; None outside, and from a Slurm before 22.05."""
    begin, end = (os.environ.get(f"SLURM_JOB_{name}_TIME", "") for name in ("START", "END"))
    return int(end) - int(begin) if begin.isdigit() and end.isdigit() else None


def clean_environment(asked: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without the variables that change what Slurm's commands mean or print.

    sbatch would put them before the lines of our scripts, and inside salloc or a job there are
    dozens that no user gave (sbatch(1), INPUT ENVIRONMENT VARIABLES). What counts of them is in
    the plan. `asked`: settings of `controller` in place of this environment's.
    """
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or not k.startswith(_PREFIXES)}
    if asked is not None and _is_here(asked):
        kept = {k: v for k, v in kept.items() if k not in _CONTROLLER} | dict(asked)
    return {**kept, "SLURM_TIME_FORMAT": "standard"}


def _is_here(asked: Mapping[str, str]) -> bool:
    """Whether they work on this host: those of a job may name a file of its node, and a job's node
    may have no other than the one that is named there."""
    if not asked:
        return "SLURM_JOB_ID" not in os.environ
    return "SLURM_CONF" not in asked or os.access(asked["SLURM_CONF"], os.R_OK)
