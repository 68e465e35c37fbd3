"""The environment in which jobs are submitted and scripts are run."""

from __future__ import annotations

import os

#: Variables of Slurm that say where the cluster is, rather than what a job should be like.
_KEPT = {"SLURM_CONF", "SLURM_CONF_SERVER"}


def clean_environment() -> dict[str, str]:
    """Our environment without the variables that change what sbatch and squeue mean.

    Inside salloc or a job there are dozens (SLURM_JOB_NAME, SLURM_MEM_PER_CPU, …), and each is
    an option that a user never gave (sbatch(1), INPUT ENVIRONMENT VARIABLES).
    """
    prefixes = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SALLOC_")
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or not k.startswith(prefixes)}
    return {**kept, "SLURM_TIME_FORMAT": "standard"}
