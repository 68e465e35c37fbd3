"""What is wrong, or soon will be, each with its remedy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.jobs.states import JobStatus, Verdict
from contracts.live.state import Engine, Handover, Idle, Job, Warning
from contracts.load import MOST_WAITING

#: Seconds before an end from which on it is told.
SOON_S = 600.0
#: Of the output directory's file system: what is too little, whichever comes first.
_LEAST_BYTES, _LEAST_SHARE = 2 << 30, 0.05
#: Requests that wait at the door, as a share of those that may.
_FULL = 0.9


@dataclass(frozen=True)
class Seen:
    """What warnings are made of. `on_gpu`: the model is to be on GPUs, and nowhere else; `told`:
    what orch has found otherwise than asked for."""

    jobs: Sequence[Job]
    replicas: Sequence[Engine]
    handover: Handover | None
    idle: Idle | None
    output: Path
    on_gpu: bool
    queued: int
    told: Sequence[str] = ()


def warnings_of(seen: Seen, now: float) -> tuple[Warning, ...]:
    """Return them, the worst first."""
    return (
        *_ended(seen.jobs),
        *_out(seen.replicas),
        *_on_cpu(seen),
        *_dark(seen.handover),
        *_ends_soon(seen, now),
        *_full(seen.queued),
        *_disk(seen.output),
        *(Warning(what=one, remedy="It serves all the same.") for one in seen.told),
    )


def _ended(jobs: Sequence[Job]) -> Iterator[Warning]:
    for job in jobs:
        if JobStatus(job.state).verdict is Verdict.FAILED:
            yield Warning(
                what=f"The {job.service} job {job.id} {job.reason}.".replace("..", "."),
                remedy="Look at the end of its log, then deploy again.",
            )


def _out(replicas: Sequence[Engine]) -> Iterator[Warning]:
    for one in replicas:
        if not one.ok:
            others = any(other.ok for other in replicas)
            yield Warning(
                what=f"The replica {one.address} would not answer: {one.reason or 'it is out'}",
                remedy="The others go on; look at the end of its log."
                if others
                else "No query is answered: look at the end of its log, or deploy again.",
            )


def _on_cpu(seen: Seen) -> Iterator[Warning]:
    for one in seen.replicas:
        if seen.on_gpu and one.device is not None and "cpu" in one.device:
            yield Warning(
                what=f"The replica {one.address} has its model on {one.device}, though GPUs were "
                "asked for.",
                remedy='Ask for more GPUs or a smaller model; orch.py --fit says what fits. '
                '"allow_cpu" in the recipe takes it as it is.',
            )  # fmt: skip


def _dark(handover: Handover | None) -> Iterator[Warning]:
    if handover is None:
        return
    if handover.dark_s:
        yield Warning(
            what=f"Nobody will serve for {handover.dark_s:.0f} s: the next jobs are expected after "
            "the end of these.",
            remedy="It comes back by itself; jobs that ask for less wait less.",
        )
    if handover.problem:
        yield Warning(what=handover.problem, remedy="It is tried again until these jobs end.")


def _ends_soon(seen: Seen, now: float) -> Iterator[Warning]:
    ending = [job for job in seen.jobs if job.ends is not None and job.ends - now < SOON_S]
    for job in () if _goes_on(seen.handover) else ending:
        if job.successor is None and job.state == "RUNNING" and job.ends is not None:
            yield Warning(
                what=f"The {job.service} job {job.id} ends at {_clock(job.ends)}, and no other "
                "takes its place.",
                remedy='Deploy again, with a longer "time" or with "until" in the recipe.',
            )
    if seen.idle is not None and seen.idle.ends is not None and seen.idle.ends - now < SOON_S:
        yield Warning(
            what=f"Without a request it goes idle at {_clock(seen.idle.ends)}.",
            remedy="Any request of a model puts that off.",
        )


def _goes_on(handover: Handover | None) -> bool:
    """Whether others are to take the place of these jobs."""
    return handover is not None and (handover.max_jobs is None or handover.job < handover.max_jobs)


def _full(queued: int) -> Iterator[Warning]:
    if queued >= _FULL * MOST_WAITING:
        yield Warning(
            what=f"{queued} requests wait at the door, which lets {MOST_WAITING} wait.",
            remedy="Send fewer at once, or deploy more replicas.",
        )


def _disk(output: Path) -> Iterator[Warning]:
    try:
        found = os.statvfs(output)
    except OSError:
        return
    free, size = (blocks * found.f_frsize for blocks in (found.f_bavail, found.f_blocks))
    if free < min(_LEAST_BYTES, _LEAST_SHARE * size):
        yield Warning(
            what=f"{output} has {free / 1e9:.1f} GB left.",
            remedy="Make room there: logs, results and answers of batches are lost else.",
        )


def _clock(at: float) -> str:
    return time.strftime("%H:%M", time.localtime(at))
