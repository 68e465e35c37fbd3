"""What a run leaves behind: summary.json, requests.jsonl, and a table for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from loadgen.metrics import window_of
from loadgen.options import Options
from loadgen.records import Measured, Record
from loadgen.table_csv import csv_lines

#: A run of a sweep and its summary.
Point = tuple[Options, Mapping[str, Any]]


def write_files(options: Options, measured: Measured, summary: Mapping[str, Any]) -> None:
    """Write the files of a run whole, the summary last: where it is, everything is.

    Raises OSError.
    """
    window = window_of(measured, options)
    requests = [as_dict(r, measured.start, window.has(r)) for r in measured.records]
    lines = (json.dumps(request, allow_nan=False) + "\n" for request in requests)
    write_whole(options.out / "requests.jsonl", lines)
    write_whole(options.out / "requests.csv", csv_lines(requests))
    _write_summary(options.out, summary)


def _write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    write_whole(out / "summary.json", [json.dumps(summary, indent=2, allow_nan=False) + "\n"])


def write_sweep(
    out: Path, found: Sequence[Point], began: datetime, about: Mapping[str, Any]
) -> None:
    """The summary of a sweep: each point's own, and a verdict on all. Raises OSError."""
    by = "rate" if found[0][0].open_loop else "clients"
    points = [
        {"value": getattr(options, by), "folder": options.out.name, "summary": summary}
        for options, summary in found
    ]
    bad = [(p["folder"], p["summary"]["validity"]) for p in points]
    reasons = [(c, f"{name}: {r}") for name, v in bad for c, r in _reasons(v)]
    _write_summary(
        out,
        {
            "sweep": {"by": by, "points": points},
            "validity": {
                "valid": not reasons,
                "reasons": [reason for _, reason in reasons],
                "codes": [code for code, _ in reasons],
                "notes": [],
            },
            "provenance": {
                **found[0][1]["provenance"],
                "began": began.isoformat(timespec="milliseconds"),
                "ended": found[-1][1]["provenance"]["ended"],
                "context": about["context"],
            },
        },
    )


def _reasons(validity: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return zip(validity["codes"], validity["reasons"], strict=True)


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write to a temporary name in the same folder and rename. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(parts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def as_dict(record: Record, start: float, in_window: bool) -> dict[str, Any]:
    """A line of requests.jsonl: times in seconds from `start`; None where something did not come so
    far."""
    answer = record.answer
    return {
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
        "ttft": record.ttft,
        "e2e": record.e2e,
        "tpot": record.tpot,
        "gaps": record.itl,
        "output_tokens": answer.output_tokens,
        "input_tokens": answer.input_tokens,
        "server": {
            "embed": answer.embed,
            "search": answer.search,
            "load": answer.load,
            "prefill": answer.prefill,
            "decode": answer.decode,
            "total": answer.total,
            "queue": record.queue if record.error is None else None,
        },
        "http_status": record.http_status,
        "error": record.error,
        "message": record.message,
    }


def say(text: str) -> None:
    """A line for people, on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """A line about what went wrong, on stderr."""
    sys.stderr.write(f"loadgen: {text}\n")


_ROWS = (("TTFT", "ttft"), ("ITL", "itl"), ("TPOT", "tpot"), ("E2E", "e2e"))
_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def table(summary: Mapping[str, Any]) -> str:
    """The main figures: verdict, counts, rates, latencies in milliseconds."""
    requests, rates = summary["requests"], summary["throughput"]
    out = [
        f"{requests['succeeded']} of {requests['planned']} requests succeeded, "
        f"{requests['failed']} failed, {requests['retried']} retried, in "
        f"{summary['seconds']['total']:.2f} s; "
        f"{_figure(summary['concurrency']['mean'])} in flight (mean), "
        f"{summary['concurrency']['max']} at most",
        f"{_figure(rates['requests_per_second'])} requests/s, "
        f"{_figure(rates['output_tokens_per_second'])} output tokens/s",
        "",
        f"{'ms':<6}" + "".join(f"{name:>10}" for name in _COLUMNS),
    ]
    for label, key in _ROWS:
        row = summary["latency_seconds"][key]
        out.append(f"{label:<6}" + "".join(f"{_ms(row[name]):>10}" for name in _COLUMNS))
    out += [*_steps(summary["server_seconds"]), *_replicas(summary["replicas"])]
    out += ["", *_verdict(summary["validity"])]
    return "\n".join(out)


def sweep_table(found: Sequence[Point]) -> str:
    """A line for each point of a sweep: load, rates, latencies in milliseconds, verdict."""
    head = ("", "req/s", "tokens/s", "TTFT p50", "TTFT p99", "TPOT p50", "E2E p50", "")
    rows = [f"{head[0]:<14}" + "".join(f"{name:>12}" for name in head[1:])]
    for options, summary in found:
        rates, latency = summary["throughput"], summary["latency_seconds"]
        cells = [
            _figure(rates[name]) for name in ("requests_per_second", "output_tokens_per_second")
        ]
        cells += [_ms(latency["ttft"]["p50"]), _ms(latency["ttft"]["p99"])]
        cells += [_ms(latency["tpot"]["p50"]), _ms(latency["e2e"]["p50"])]
        cells.append("valid" if summary["validity"]["valid"] else "NOT VALID")
        rows.append(f"{options.out.name:<14}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(rows)


_STEPS = ("embed", "search", "load", "prefill", "decode", "queue")


def _steps(server: Mapping[str, Any]) -> list[str]:
    """Where the time goes on average; nothing where there was no retrieval."""
    if server["embed"]["mean"] is None:
        return []
    return ["", "mean ms: " + ", ".join(f"{name} {_ms(server[name]['mean'])}" for name in _STEPS)]


def _replicas(replicas: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each; none where there is only one, which had it all."""
    if len(replicas) == 1:
        return []
    return ["", *(_replica(replica) for replica in replicas)]


def _replica(replica: Mapping[str, Any]) -> str:
    counts = ", ".join(
        f"{replica[key]} {key.replace('_', ' ')}" for key in ("succeeded", "failed", "retried_away")
    )
    return f"{replica['url']}: {counts}, {replica['output_tokens']} output tokens"


def _verdict(validity: Mapping[str, Any]) -> list[str]:
    notes = [f"note: {note}" for note in validity["notes"]]
    if validity["valid"]:
        return [*notes, "valid"]
    return [*notes, "NOT VALID:", *(f"  {reason}" for reason in validity["reasons"])]


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.2f}"


def _ms(seconds: float | None) -> str:
    return "n/a" if seconds is None else f"{seconds * 1000:,.2f}"
