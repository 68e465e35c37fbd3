"""Job ids: those of contracts/jobs/ids.py."""

from contracts.jobs.ids import cluster_of, join, number_of

__all__ = ["cluster_of", "join", "number_of"]
