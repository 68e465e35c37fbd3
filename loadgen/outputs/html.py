"""report.html: what a run or a sweep has found, as one file that needs nothing else.

Works from summary.json and requests.jsonl alone, so that it can be made again at any time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contracts.figures import DRAWN
from contracts.files import write_whole
from contracts.summary import Summary, Sweep, SweepPoint, Validity
from engines.json_values import text_of
from loadgen import console
from loadgen.outputs import (
    curves,
    drawing,
    formatting,
    node_plots,
    origins,
    plots,
    prometheus,
    results,
    tables,
)
from loadgen.outputs.plot_data import Requests
from loadgen.outputs.prometheus import Snapshot


def templates(*folders: Path) -> Environment:
    """Return the templates of `folders` and those of this package, which they may extend; every
    value is escaped, but for what a template says is markup."""
    return Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


_TEMPLATES = templates()


def page(template: str, **values: object) -> str:
    """Return a whole page."""
    return _TEMPLATES.get_template(template).render(**values)


def write_report(out: Path, summary: Summary, requests: Requests) -> None:
    """Write report.html of one run whole. Raises OSError."""
    document = run_page(summary, requests, prometheus.read_snapshot(out))
    write_whole(out / "report.html", [document])


@dataclass(frozen=True)
class _Section:
    """A part of the page; `aligned`: with columns below those of others, for the eye to compare."""

    title: str
    plots: Sequence[drawing.Plot]
    note: str = ""
    aligned: bool = False


def run_page(summary: Summary, requests: Requests, seen: Snapshot | None = None) -> str:
    """Return the page of one run; `seen`: what metrics.json holds."""
    beside, note = node_plots.draw_plots(seen, summary, requests), node_plots.note(seen)
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
        **_common(summary, tables.load_in_words(summary), summary),
        headline=tables.headline(summary),
        sections=[section for section in sections if section.plots or section.note],
        tables=tables.tables(summary, requests),
        definitions=summary.definitions,
    )


def _common(summary: Summary | Sweep, load: str, first: Summary) -> Mapping[str, object]:
    origin = summary.provenance
    return {
        "model": formatting.text(formatting.lookup(origin, "options", "model")),
        "load": load,
        "began": formatting.when(text_of(origin, "began")),
        "validity": summary.validity,
        "provenance": origins.fact_groups(first, origin, load),
        "recorded": origins.as_recorded(origin),
    }


def _replica_plots(summary: Summary, requests: Requests) -> list[drawing.Plot]:
    names = [replica.url.removeprefix("http://") for replica in summary.replicas]
    if len(names) < 2:
        return []
    return curves.replicas(names, tables.replica_spreads(summary, requests))


# --- sweeps ---


def write_sweep_report(out: Path, summary: Sweep) -> None:
    """Write report.html of a sweep whole; it links to its points' own reports. Raises OSError."""
    write_whole(out / "report.html", [sweep_page(summary)])


def sweep_page(summary: Sweep) -> str:
    """Return the page of a sweep: a row for each point, and what changes from point to point."""
    by, points = summary.sweep.by, summary.sweep.points
    columns = _columns(points)
    first, values = points[0].summary, ", ".join(f"{point.value:g}" for point in points)
    return page(
        "sweep.html.j2",
        **_common(summary, f"sweep over {_BY[by]}: {values}", first),
        head=[_BY[by], *(head for head, *_ in columns)],
        points=[_point(point, columns) for point in points],
        plots=_sweep_plots(_BY[by], points),
        by=_BY[by],
        definitions=first.definitions,
    )


Value = Callable[[Summary], float | None]


def _latency(key: str, percentile: str) -> Value:
    return lambda summary: summary.latency(key).at(percentile)


_BY = {"clients": "clients", "rate": "requests/s asked for"}
Column = tuple[str, Value, Callable[[float | None], str]]


def _columns(points: Sequence[SweepPoint]) -> list[Column]:
    """Those of figures that older sweeps do not have are left out."""
    known = {key for point in points for key in point.summary.latency_seconds}
    return [
        ("in flight (mean)", lambda s: s.concurrency.mean, formatting.number),
        ("requests/s", lambda s: s.throughput.requests_per_second, formatting.number),
        ("output tokens/s", lambda s: s.throughput.output_tokens_per_second, formatting.number),
        ("tokens/s of one request (p50)", lambda s: s.pace.p50, formatting.number),
        *(
            (f"{figure.label} {p} [ms]", _latency(figure.key, p), formatting.ms)
            for figure in DRAWN
            for p in ("p50", "p99")
            if figure.key in known
        ),
        ("failed", lambda s: s.requests.failed, formatting.number),
    ]


@dataclass(frozen=True)
class _Point:
    """A point of a sweep as its page has it; `link`: to the page of its own."""

    value: str
    link: str
    cells: Sequence[str]
    validity: Validity


def _point(point: SweepPoint, columns: Sequence[Column]) -> _Point:
    return _Point(
        value=f"{point.value:g}",
        link=f"{point.folder}/report.html",
        cells=[spelled(of(point.summary)) for _, of, spelled in columns],
        validity=point.summary.validity,
    )


def _sweep_plots(by: str, points: Sequence[SweepPoint]) -> list[drawing.Plot]:
    at = [point.value for point in points]
    valid = [point.summary.validity.valid for point in points]

    def line(label: str, of: Value, times: float = 1.0) -> curves.Line:
        found = [of(point.summary) for point in points]
        return curves.Line(label, [None if x is None else x * times for x in found])

    def latency(key: str) -> list[curves.Line]:
        return [line(p, _latency(key, p), times=1000) for p in ("p50", "p95", "p99")]

    tokens = line("", lambda s: s.throughput.output_tokens_per_second)
    wanted = [
        ("Throughput", "output tokens/s", [tokens]),
        ("Pace of one request", "tokens/s, p50", [line("p50", lambda s: s.pace.p50)]),
        *((figure.label, "ms", latency(figure.key)) for figure in DRAWN),
        ("In flight", "requests, mean", [line("", lambda s: s.concurrency.mean)]),
    ]
    return [
        drawing.Plot(curves.against(f"sweep-{n}", title, (by, label), at, lines, valid), "")
        for n, (title, label, lines) in enumerate(wanted)
        if any(height is not None for each in lines for height in each.heights)
    ]


# --- the command ---


def main(arguments: Sequence[str]) -> int:
    """Run `python3 -m loadgen report DIR`: make the report again. Return the exit code.

    Raises UsageError, OSError.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m loadgen report",
        description="Make report.html again, of the files of a finished run or sweep.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what --out was")
    folder: Path = parser.parse_args(arguments).folder
    _make_again(folder)
    return 0


def _make_again(folder: Path) -> None:
    summary = results.read_summary(folder)
    if isinstance(summary, Summary):
        write_report(folder, summary, results.read_requests(folder))
    else:
        for run in results.sweep_runs(folder, summary).values():
            write_report(run.folder, run.summary, run.requests)
        write_sweep_report(folder, summary)
    console.print_line(f"{folder / 'report.html'}")
