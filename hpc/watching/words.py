"""The live state in lines: what has changed, one line each."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.live.state import Benchmark, Handover, State

#: Who says it, and what.
Line = tuple[str, str]


def changes(before: State | None, after: State) -> Iterator[Line]:
    """Yield what is to be said of a state after another one; of the first all that matters."""
    was, now = before.deployment if before else None, after.deployment
    if was is None or (was.state, was.reason) != (now.state, now.reason):
        yield "state", f"{now.id} is {now.state}{f': {now.reason}' if now.reason else ''}"
    if now.address and (was is None or was.address != now.address):
        yield "address", now.address
    old_jobs = {job.id: job.reason for job in before.jobs} if before else {}
    for job in after.jobs:
        if old_jobs.get(job.id) != job.reason:
            where = f" on {job.host}" if job.host else ""
            yield job.service, f"job {job.id} {job.reason}{where}"
    old = {one.address: (one.ok, one.device) for one in before.replicas} if before else {}
    for one in after.replicas:
        if old.get(one.address) != (one.ok, one.device):
            place = f" on {one.device}" if one.device else ""
            words = f"is well{place}" if one.ok else f"is out: {one.reason}"
            yield "replica", f"{one.address} {words}"
    if after.benchmark and (before is None or _mark(before.benchmark) != _mark(after.benchmark)):
        yield "bench", benchmark_words(after.benchmark)
    if after.handover and (words := handover_words(after.handover)) != (
        handover_words(before.handover) if before and before.handover else ""
    ):
        yield "handover", words
    known = {one.what for one in before.warnings} if before else set()
    for warning in after.warnings:
        if warning.what not in known:
            yield "warning", f"{warning.what} {warning.remedy}"


def _mark(run: Benchmark | None) -> tuple[str, str, int] | None:
    """What of a benchmark is worth a line: each tenth of it, or each hundred requests."""
    if run is None:
        return None
    tenth = run.done * 10 // run.planned if run.planned else run.done // 100
    return run.run, run.state, tenth


def benchmark_words(run: Benchmark) -> str:
    """How far a benchmark is."""
    of = f" of {run.planned}" if run.planned is not None else ""
    left = f", {run.eta_s:.0f} s left" if run.eta_s is not None else ""
    return f"{run.run} {run.state}: {run.done}{of} requests, {run.failed} failed{left}"


def handover_words(handover: Handover) -> str:
    """How far a hand-over is."""
    most = f" of at most {handover.max_jobs}" if handover.max_jobs else ""
    dark = f"; nobody will serve for {handover.dark_s:.0f} s" if handover.dark_s else ""
    return f"job {handover.job}{most}: {handover.phase.replace('_', ' ')}{dark}"
