"""The few kinds of failure that a user can meet, each with its exit code.

Every message is one sentence that names the thing, the cause and the remedy; `details` are lines
printed below it (a log's end, Slurm's own words).
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

#: Exit code of what SIGINT ended, and of what was told to end in another way and did.
EXIT_STOPPED = 128 + signal.SIGINT
#: Exit code of a batch of which no line is missing, but some have failed in the end.
EXIT_SOME_FAILED = 4


class OrchError(Exception):
    """Base of all failures that end in a sentence and an exit code."""

    exit_code = 1

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)


class UsageError(OrchError):
    """Recipe, site profile or command line is wrong; nothing was submitted."""

    exit_code = 2


class SchedulerError(OrchError):
    """The scheduler refused a job or cannot be reached."""

    exit_code = 3


class SchedulerUnavailable(SchedulerError):
    """The scheduler did not answer this time; says nothing about any job."""


class ServiceError(OrchError):
    """A service of the deployment failed."""

    exit_code = 4


class TargetError(ServiceError):
    """The server that is to be measured cannot be reached, or refuses what it is asked for."""


class DeadlineError(OrchError):
    """A deadline passed: in the queue or during start-up."""

    exit_code = 5


class BenchmarkInvalid(OrchError):
    """The benchmark ran, but its figures must not be used."""

    exit_code = 6


class Regression(OrchError):
    """Something is worse than it was, by more than was allowed."""

    exit_code = 7


class BatchEnded(OrchError):
    """A batch has ended with lines that failed or are missing, and its deployment with it."""

    def __init__(self, message: str, exit_code: int, details: Sequence[str] = ()) -> None:
        super().__init__(message, details)
        self.exit_code = exit_code


class Interrupted(OrchError):
    """SIGINT or SIGTERM: our own jobs are to be cancelled."""

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signum


class Detached(OrchError):
    """SIGHUP, the terminal is lost: the deployment goes on without us."""

    exit_code = 129
