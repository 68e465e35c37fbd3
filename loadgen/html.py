"""report.html: what a run or a sweep has found, as one file that needs nothing else.

Works from summary.json and requests.jsonl alone, so that it can be made again at any time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from loadgen import meanwhile, observed, plots, report, results, rows
from loadgen.options import LoadgenError

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, **values: Any) -> str:
    """A whole page; every value is escaped, but for what the template says is markup."""
    return _TEMPLATES.get_template(template).render(**values)


def write_report(
    out: Path, summary: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]
) -> None:
    """Write report.html of one run whole. Raises OSError."""
    made = run_page(summary, requests, observed.read_snapshot(out))
    report.write_whole(out / "report.html", [made])


@dataclass(frozen=True)
class _Section:
    """A part of the page; `aligned`: with columns below those of others, for the eye to compare."""

    title: str
    plots: Sequence[plots.Plot]
    note: str = ""
    aligned: bool = False


def run_page(
    summary: Mapping[str, Any],
    requests: Sequence[Mapping[str, Any]],
    seen: Mapping[str, Any] | None = None,
) -> str:
    """The page of one run; `seen`: what metrics.json holds."""
    beside, note = meanwhile.beside(seen, summary, requests), meanwhile.note(seen)
    sections = [
        _Section("Distributions", plots.distributions(summary, requests)),
        _Section("Steps", plots.steps_of_retrieval(requests)),
        _Section("Over time", plots.over_time(summary, requests), aligned=True),
        _Section("Nodes and GPUs meanwhile", beside, note, aligned=True),
        _Section("Replicas", _replica_plots(summary, requests)),
        _Section("Failures", plots.errors(summary, requests)),
    ]
    return page(
        "run.html.j2",
        **_common(summary, rows.load_in_words(summary)),
        headline=rows.headline(summary),
        sections=[section for section in sections if section.plots or section.note],
        tables=rows.tables(summary, requests),
        definitions=summary.get("definitions") or {},
    )


def _common(summary: Mapping[str, Any], load: str) -> dict[str, Any]:
    origin = summary.get("provenance") or {}
    return {
        "model": rows.text(rows.look(origin, "options", "model")),
        "load": load,
        "began": rows.when(origin.get("began")),
        "validity": summary.get("validity") or {"valid": False, "reasons": [], "notes": []},
        "provenance": rows.provenance(summary, load),
        "recorded": rows.as_recorded(summary),
    }


def _replica_plots(
    summary: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]
) -> list[plots.Plot]:
    names = [replica["url"].removeprefix("http://") for replica in summary["replicas"]]
    if len(names) < 2:
        return []
    return plots.replicas(names, rows.replica_spreads(summary, requests))


# --- sweeps ---


def write_sweep_report(out: Path, summary: Mapping[str, Any]) -> None:
    """Write report.html of a sweep whole; it links to its points' own reports. Raises OSError."""
    report.write_whole(out / "report.html", [sweep_page(summary)])


def sweep_page(summary: Mapping[str, Any]) -> str:
    """The page of a sweep: a row for each point, and what changes from point to point."""
    by, points = summary["sweep"]["by"], summary["sweep"]["points"]
    first = points[0]["summary"] if points else {}
    values = ", ".join(f"{point['value']:g}" for point in points)
    return page(
        "sweep.html.j2",
        **_common({**first, **summary}, f"sweep over {_BY[by]}: {values}"),
        head=[_BY[by], *(head for head, _ in _SWEEP_COLUMNS)],
        points=[_point(point) for point in points],
        plots=_sweep_plots(_BY[by], points),
        by=_BY[by],
        definitions=first.get("definitions") or {},
    )


_BY = {"clients": "clients", "rate": "requests/s asked for"}
_SWEEP_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("in flight (mean)", lambda s: rows.number(s["concurrency"]["mean"])),
    ("requests/s", lambda s: rows.number(s["throughput"]["requests_per_second"])),
    ("output tokens/s", lambda s: rows.number(s["throughput"]["output_tokens_per_second"])),
    (
        "tokens/s of one request (p50)",
        lambda s: rows.number(s["per_request"]["output_tokens_per_second"]["p50"]),
    ),
    ("TTFT p50 [ms]", lambda s: rows.ms(s["latency_seconds"]["ttft"]["p50"])),
    ("TTFT p99 [ms]", lambda s: rows.ms(s["latency_seconds"]["ttft"]["p99"])),
    ("ITL p50 [ms]", lambda s: rows.ms(s["latency_seconds"]["itl"]["p50"])),
    ("ITL p99 [ms]", lambda s: rows.ms(s["latency_seconds"]["itl"]["p99"])),
    ("E2E p50 [ms]", lambda s: rows.ms(s["latency_seconds"]["e2e"]["p50"])),
    ("E2E p99 [ms]", lambda s: rows.ms(s["latency_seconds"]["e2e"]["p99"])),
    ("failed", lambda s: rows.number(s["requests"]["failed"])),
)


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    summary = point["summary"]
    return {
        "value": f"{point['value']:g}",
        "link": f"{point['folder']}/report.html",
        "cells": [cell(summary) for _, cell in _SWEEP_COLUMNS],
        "validity": summary["validity"],
    }


def _sweep_plots(by: str, points: Sequence[Mapping[str, Any]]) -> list[plots.Plot]:
    at = [point["value"] for point in points]
    valid = [point["summary"]["validity"]["valid"] for point in points]

    def line(label: str, *path: str, times: float = 1.0) -> plots.Line:
        found = [rows.look(point["summary"], *path) for point in points]
        return plots.Line(label, [None if x is None else x * times for x in found])

    def latency(key: str) -> list[plots.Line]:
        return [line(p, "latency_seconds", key, p, times=1000) for p in ("p50", "p95", "p99")]

    pace = line("p50", "per_request", "output_tokens_per_second", "p50")
    wanted = [
        ("Throughput", "output tokens/s", [line("", "throughput", "output_tokens_per_second")]),
        ("Pace of one request", "tokens/s, p50", [pace]),
        ("TTFT", "ms", latency("ttft")),
        ("ITL", "ms", latency("itl")),
        ("E2E", "ms", latency("e2e")),
        ("In flight", "requests, mean", [line("", "concurrency", "mean")]),
    ]
    return [
        plots.Plot(plots.against(f"sweep-{n}", title, (by, label), at, lines, valid), "")
        for n, (title, label, lines) in enumerate(wanted)
    ]


# --- the command ---


def main(arguments: Sequence[str]) -> int:
    """`python3 -m loadgen report DIR`: make the report again. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m loadgen report",
        description="Make report.html again, of the files of a finished run or sweep.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what --out was")
    folder: Path = parser.parse_args(arguments).folder
    try:
        _make_again(folder)
    except LoadgenError as error:
        report.complain(str(error))
        return error.exit_code
    except OSError as error:
        report.complain(f"cannot write the report: {error}")
        return LoadgenError.exit_code
    return 0


def _make_again(folder: Path) -> None:
    summary = results.read_summary(folder)
    if "sweep" not in summary:
        write_report(folder, summary, results.read_requests(folder))
    else:
        for run in results.sweep_runs(folder, summary).values():
            write_report(run.folder, run.summary, run.requests)
        write_sweep_report(folder, summary)
    report.say(f"{folder / 'report.html'}")
