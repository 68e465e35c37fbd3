"""What a run leaves behind: summary.json, requests.jsonl, and a table for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadgen.metrics import Measured, Record


def write_files(out: Path, measured: Measured, summary: Mapping[str, Any]) -> None:
    """Write both files whole, the summary last: where it is, everything is. Raises OSError."""
    write_whole(out / "requests.jsonl", lines(measured))
    write_whole(out / "summary.json", [json.dumps(summary, indent=2, allow_nan=False) + "\n"])


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write to a temporary name in the same folder and rename. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(parts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def lines(measured: Measured) -> Iterator[str]:
    """requests.jsonl: a line per request; times in seconds from the common start."""
    for record in measured.records:
        yield json.dumps(as_dict(record, measured.start), allow_nan=False) + "\n"


def as_dict(record: Record, start: float) -> dict[str, Any]:
    """A record with times from `start`; None where something did not come so far."""
    answer = record.answer
    return {
        "request": record.index,
        "client": record.client,
        "replica": record.replica,
        "retried": record.retried_from is not None,
        "retried_from": record.retried_from,
        "intended": record.intended - start,
        "sent": None if record.sent is None else record.sent - start,
        "connect": record.connect,
        "ttft": record.ttft,
        "e2e": record.e2e,
        "tpot": record.tpot,
        "gaps": record.itl,
        "output_tokens": answer.output_tokens,
        "input_tokens": answer.input_tokens,
        "server": {
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
        f"{summary['seconds']['measured']:.2f} s; "
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
    out += [*_replicas(summary["replicas"]), "", *_verdict(summary["validity"])]
    return "\n".join(out)


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
