"""Job ids: a number, or NUMBER;CLUSTER if sbatch named the cluster that took the job.

Files of a job are named after the number; whoever asks about the job asks that cluster.
"""

from __future__ import annotations


def join(number: str, cluster: str) -> str:
    """The id of a job, as `sbatch --parsable` says it."""
    return f"{number};{cluster}" if cluster else number


def number_of(job_id: str) -> str:
    """The job's number, by which its cluster and its files know it."""
    return job_id.partition(";")[0]


def cluster_of(job_id: str) -> str:
    """The cluster that took the job, "" if sbatch named none (the default one)."""
    return job_id.partition(";")[2]
