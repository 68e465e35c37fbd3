"""The states of jobs: those of contracts/jobs/states.py, which the client service says, too."""

from contracts.jobs.states import GONE, JobStatus, Outlook, Reason, Verdict

__all__ = ["GONE", "JobStatus", "Outlook", "Reason", "Verdict"]
