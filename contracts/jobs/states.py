"""The states of jobs and what each means for somebody who waits.

They are Slurm's (squeue(1), JOB STATE CODES): it has one for whatever may happen to a job. Other
schedulers' states are put into these words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Verdict(Enum):
    """What a state means for the one who waits."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    UNKNOWN = "unknown"


_WORDS: dict[str, tuple[Verdict, str]] = {
    "PENDING": (Verdict.WAITING, "waits in the queue"),
    "CONFIGURING": (Verdict.WAITING, "has nodes that are being made ready"),
    "POWER_UP_NODE": (Verdict.WAITING, "has nodes that are being switched on"),
    "REQUEUED": (Verdict.WAITING, "goes back to the queue"),
    "REQUEUE_FED": (Verdict.WAITING, "goes back to the queue"),
    "REQUEUE_HOLD": (Verdict.WAITING, "is back in the queue and held"),
    "SPECIAL_EXIT": (Verdict.WAITING, "is back in the queue and held"),
    "RESV_DEL_HOLD": (Verdict.WAITING, "is held: its reservation was deleted"),
    "SUSPENDED": (Verdict.WAITING, "is suspended"),
    "STOPPED": (Verdict.WAITING, "is stopped by a signal"),
    "RUNNING": (Verdict.RUNNING, "runs"),
    "EXPEDITING": (Verdict.WAITING, "is started again ahead of others"),
    "RESIZING": (Verdict.RUNNING, "changes its size"),
    "SIGNALING": (Verdict.RUNNING, "is being signalled"),
    "STAGE_OUT": (Verdict.RUNNING, "stages out its files"),
    "COMPLETING": (Verdict.RUNNING, "is ending"),
    "COMPLETED": (Verdict.ENDED, "ended by itself"),
    "BOOT_FAIL": (Verdict.FAILED, "failed: a node did not boot"),
    "CANCELLED": (Verdict.FAILED, "was cancelled"),
    "DEADLINE": (Verdict.FAILED, "was ended: its deadline passed"),
    "FAILED": (Verdict.FAILED, "failed"),
    "LAUNCH_FAILED": (Verdict.FAILED, "could not be launched on its nodes"),
    "NODE_FAIL": (Verdict.FAILED, "failed: a node went down"),
    "OUT_OF_MEMORY": (Verdict.FAILED, "ran out of memory; raise mem_gb"),
    "PREEMPTED": (Verdict.FAILED, "was preempted by a job of higher priority"),
    "RECONFIG_FAIL": (Verdict.FAILED, "failed: its nodes could not be configured"),
    "REVOKED": (Verdict.WAITING, "goes on on another cluster of its federation"),
    "TIMEOUT": (Verdict.FAILED, "reached its time limit"),
}

#: A job that had begun and is in one of these again was requeued: it will run anew.
_IN_QUEUE = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")


@dataclass(frozen=True)
class JobStatus:
    """A job as its scheduler sees it: its state and, if there is one, the scheduler's reason.

    `start` is when it began or, while it waits, is expected to begin (seconds since the epoch,
    None if that is not known); `left_s` is what is left of its time limit.
    """

    state: str
    reason: str = ""
    nodes: str = ""
    start: float | None = None
    left_s: int | None = None
    name: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the state means; UNKNOWN for a state that we have never heard of."""
        return _WORDS.get(self.state, (Verdict.UNKNOWN, ""))[0]

    @property
    def words(self) -> str:
        """The state as the end of a sentence that starts with the job."""
        known = _WORDS.get(self.state)
        return known[1] if known else f"is in state {self.state}"

    @property
    def over(self) -> bool:
        """Whether the job will not run any more."""
        return self.verdict in (Verdict.ENDED, Verdict.FAILED)

    @property
    def in_queue(self) -> bool:
        """Whether the job waits to be started, for the first time or again."""
        return self.state in _IN_QUEUE


class Outlook(Enum):
    """How a reason to wait comes to its end."""

    ITSELF = "clears by itself"
    SOMEBODY = "clears only when somebody does something"
    NEVER = "never clears for the job as it was submitted"


@dataclass(frozen=True)
class Reason:
    """A reason in words that go on from "the job waits: "; `remedy` is what to do, if anything."""

    outlook: Outlook
    words: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.words}; {self.remedy}" if self.remedy else self.words


#: Neither the queue nor accounting of the controller that we ask know of the job: it may have
#: ended, or be another controller's.
GONE = JobStatus("GONE")


def moment(text: str) -> float | None:
    """Return the seconds since 1970 of a local time as squeue prints it; None for "N/A"."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
