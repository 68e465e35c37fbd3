"""What a run leaves behind: summary.json, requests.jsonl, and a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import cast

from contracts.figures import FIGURES, MAIN
from contracts.files import write_whole
from contracts.summary import (
    STEPS,
    Distribution,
    ReplicaEnergy,
    ReplicaShare,
    Summary,
    Sweep,
    SweepPoint,
    SweepPoints,
    Validity,
)
from loadgen.measure.provenance import About
from loadgen.measure.summarise import window_of
from loadgen.measurements import Measured, RequestLine, RequestRecord
from loadgen.options import Options
from loadgen.outputs.formatting import ms, number
from loadgen.outputs.requests_csv import csv_lines

#: A run of a sweep and its summary.
Found = tuple[Options, Summary]


def write_files(options: Options, measured: Measured, summary: Summary) -> None:
    """Write the files of a run whole, the summary last: where it is, everything is.

    Raises OSError.
    """
    window = window_of(measured, options)
    requests = [as_dict(r, measured.start, window.has(r)) for r in measured.records]
    lines = (json.dumps(request, allow_nan=False) + "\n" for request in requests)
    write_whole(options.out / "requests.jsonl", lines)
    write_whole(options.out / "requests.csv", csv_lines(requests))
    _write_summary(options.out, summary)


def _write_summary(out: Path, summary: Summary | Sweep) -> None:
    text = json.dumps(asdict(summary), indent=2, allow_nan=False)
    write_whole(out / "summary.json", [text + "\n"])


def write_sweep(out: Path, found: Sequence[Found], started_at: datetime, about: About) -> None:
    """The summary of a sweep: each point's own, and a verdict on all. Raises OSError."""
    by = "rate" if found[0][0].open_loop else "clients"
    points = [SweepPoint(getattr(o, by), o.out.name, summary) for o, summary in found]
    verdicts = [(point.folder, point.summary.validity) for point in points]
    reasons = [f"{folder}: {reason}" for folder, each in verdicts for reason in each.reasons]
    codes = [code for _, each in verdicts for code in each.codes]
    provenance = {
        **found[0][1].provenance,
        "began": started_at.isoformat(timespec="milliseconds"),
        "ended": found[-1][1].provenance["ended"],
        "context": about.context,
    }
    validity = Validity(not reasons, reasons, codes, [])
    _write_summary(out, Sweep(SweepPoints(by, points), validity, provenance))


def as_dict(record: RequestRecord, start: float, in_window: bool) -> RequestLine:
    """Return a line of requests.jsonl: times in seconds from `start`; None if something did not
    come so far."""
    answer = record.answer
    line = {
        "request": record.index,
        "client": record.client,
        "replica": record.replica,
        "retried": record.retried_from is not None,
        "retried_from": record.retried_from,
        "in_window": in_window,
        "intended": record.intended - start,
        "due": (record.intended if record.due is None else record.due) - start,
        "sent": None if record.sent is None else record.sent - start,
        "connect": record.connect,
        **{it.recorded: it.each(record) if it.each else it.of(record) for it in FIGURES},
        "output_tokens": answer.output_tokens,
        "input_tokens": answer.input_tokens,
        "finish": answer.finish,
        "server": {
            **{step: getattr(answer, step) for step in STEPS},
            "total": answer.total,
            "queue": record.queue if record.error is None else None,
        },
        "http_status": record.http_status,
        "error": record.error,
        "message": record.message,
    }
    return cast("RequestLine", line)  # the keys of FIGURES are in it, too


_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def table(summary: Summary) -> str:
    """Return the main figures: verdict, counts, rates, latencies in milliseconds."""
    requests, rates, flight = summary.requests, summary.throughput, summary.concurrency
    out = [
        f"{requests.succeeded} of {requests.planned} requests succeeded, "
        f"{requests.failed} failed, {requests.retried} retried, in "
        f"{summary.seconds.whole:.2f} s; "
        f"{number(flight.mean)} in flight (mean), {flight.max} at most",
        f"{number(rates.requests_per_second)} requests/s, "
        f"{number(rates.output_tokens_per_second)} output tokens/s",
        "",
        f"{'ms':<6}" + "".join(f"{name:>10}" for name in _COLUMNS),
    ]
    for figure in [it for it in FIGURES if it.shown(requests)]:
        row = summary.latency(figure.key)
        out.append(f"{figure.label:<6}" + "".join(f"{ms(row.at(name)):>10}" for name in _COLUMNS))
    out += [*_steps(summary.server_seconds), *_replicas(summary.replicas)]
    out += ["", *_verdict(summary.validity)]
    return "\n".join(out)


def sweep_table(found: Sequence[Found]) -> str:
    """Return a line for each point of a sweep: load, rates, latencies in milliseconds, verdict."""
    latencies = [(figure, stat) for figure in MAIN for stat in figure.of_point]
    head = ["req/s", "tokens/s", *(f"{figure.label} {stat}" for figure, stat in latencies), ""]
    lines = [" " * 14 + "".join(f"{name:>12}" for name in head)]
    for options, summary in found:
        rates = summary.throughput
        cells = [number(rates.requests_per_second), number(rates.output_tokens_per_second)]
        cells += [ms(summary.latency(figure.key).at(stat)) for figure, stat in latencies]
        cells.append("valid" if summary.validity.valid else "NOT VALID")
        lines.append(f"{options.out.name:<14}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def _steps(server: Mapping[str, Distribution]) -> list[str]:
    """Where the time goes on average; nothing if there was no retrieval."""
    if server["embed"].mean is None:
        return []
    return ["", "mean ms: " + ", ".join(f"{name} {ms(each.mean)}" for name, each in server.items())]


def _replicas(replicas: Sequence[ReplicaShare]) -> list[str]:
    """A line for each; none if there is only one, which had it all."""
    if len(replicas) == 1:
        return []
    return ["", *(_replica(replica) for replica in replicas)]


def _replica(replica: ReplicaShare) -> str:
    return (
        f"{replica.url}: {replica.succeeded} succeeded, {replica.failed} failed, "
        f"{replica.retried_away} retried away, {replica.output_tokens} output tokens"
        f"{_energy(replica.energy)}"
    )


def _energy(energy: ReplicaEnergy | None) -> str:
    if energy is None:
        return ""
    each = energy.joules_per_output_token
    per_token = "" if each is None else f", {number(each, 3)} J/token"
    return f", {number(energy.watts)} W{per_token} on {', '.join(energy.joules_by_gpu)}"


def _verdict(validity: Validity) -> list[str]:
    notes = [f"note: {note}" for note in validity.notes]
    if validity.valid:
        return [*notes, "valid"]
    return [*notes, "NOT VALID:", *(f"  {reason}" for reason in validity.reasons)]
