"""The plots of the reports, each an SVG element that stands in the page itself.

Text stays text and takes the page's font. Colours are the page's custom properties, so that one
plot fits a light page, a dark one and paper. Ids are made unique by the plot's name. No global
state of matplotlib is used but its settings, for the time of drawing one plot.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loadgen import rows, series, steps
from loadgen.series import Floats, Requests, Slices

# Where the home folder cannot be written it says so each time; nobody needs to know.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# Okabe and Ito's palette (jfly.uni-koeln.de/color, 2008), told apart by nearly all eyes; each line
# has a dash pattern of its own besides. Key: what is drawn with; value: the page's property.
BLUE, RED, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
INK, GRID, SHADE = "#1a1a1b", "#d9d9da", "#eeeeef"
PROPERTIES = {
    BLUE: "--c1", RED: "--c2", GREEN: "--c3", PINK: "--c4",
    INK: "--ink", GRID: "--grid", SHADE: "--shade",
}  # fmt: skip
COLOURS, DASHES = (BLUE, RED, GREEN, PINK), ("-", "--", "-.", ":")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 8.5, "axes.linewidth": 0.6, "lines.linewidth": 1.4,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": GRID, "grid.linewidth": 0.5,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
    "text.parse_math": False,
}  # fmt: skip
SIZE_IN = (4.3, 2.7)
MOST_DOTS = 300
LABELS = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "E2E"}


@dataclass(frozen=True)
class Plot:
    """A plot and the sentence below it."""

    svg: str
    caption: str


def draw(name: str, title: str, fill: Callable[[Axes], None]) -> str:
    """An SVG element that `fill` draws into; `name` is unique in the page."""
    with rc_context(_SETTINGS | {"svg.hashsalt": name}):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(True, which="major")
        fill(axes)
        axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    return _inline(file.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> str:
    """As part of a page: without head and size, ids of its own, the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', svg)
    head = f'<svg {view[0] if view else ""} role="img" aria-label="{escape(title)}">'
    svg = re.sub(r"^<svg[^>]*>", lambda _: head, svg)
    svg = re.sub(_DROPPED, "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"font: ([^;\"]*?)([\d.]+px)[^;\"]*", r"font-size: \2", svg)  # before 3.11
    svg = svg.replace("xlink:href", "href")
    for colour, named in PROPERTIES.items():
        svg = svg.replace(colour, f"var({named})")
    return svg.strip()


# The style element would be the whole page's; report.css says the same for plots alone.
_DROPPED = r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*|<style[^>]*>.*?</style>\s*"


# --- distributions ---


def distributions(summary: Mapping[str, Any], requests: Requests) -> list[Plot]:
    """How TTFT, ITL and E2E are distributed; without those of which there is nothing."""
    made = []
    for key in ("ttft", "itl", "e2e"):
        found = series.values(requests, key)
        if len(found):
            made.append(_distribution(key, found, summary["latency_seconds"][key]))
    return made


def _distribution(key: str, found: Floats, figures: Mapping[str, Any]) -> Plot:
    x, share = series.ecdf(found * 1000)
    what = "gaps" if key == "itl" else "requests"
    wide = bool(x[-1] > 5 * np.median(found) * 1000 > 0)

    def fill(axes: Axes) -> None:
        axes.plot(np.append(x[:1], x), np.append(0, share), color=BLUE, drawstyle="steps-post")
        if wide:
            axes.set_xscale("log")
            axes.set_xlim(left=x[x > 0][0])  # shares of 0 are the height at which it begins
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            _plain(axes)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(f"{LABELS[key]} [ms]{', logarithmic' if wide else ''}")
        axes.set_ylabel(f"share of {what}")
        _mark(axes, figures)

    return Plot(
        draw(f"ecdf-{key}", f"{LABELS[key]}: distribution", fill),
        f"Share of the {len(found):,} {what} that took no longer.",
    )


def _mark(axes: Axes, figures: Mapping[str, Any]) -> None:
    """The percentiles that the summary has, as marks on the line and in a legend."""
    for percent, mark in ((50, "o"), (90, "s"), (99, "^")):
        at = figures[f"p{percent}"]
        if at is not None:
            label = f"p{percent}: {rows.ms(at)} ms"
            axes.plot(at * 1000, percent / 100, mark, color=RED, markersize=4, label=label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=7.5)


def _plain(axes: Axes) -> None:
    """Numbers on a logarithmic x axis as people write them: 20, not 2x10^1."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


# --- over time ---


def over_time(summary: Mapping[str, Any], requests: Requests) -> list[Plot]:
    """Throughput, requests in flight, TTFT and E2E over the time of the run."""
    over = series.slices(requests)
    if over is None:
        return []
    window = window_of(summary, over)
    busy, svgs = series.in_flight(requests, over), []
    if series.whole(requests):
        tokens = series.tokens_per_second(requests, over)
        svgs.append(_steps("tokens", "Throughput", "output tokens/s", tokens, over, window))
    svgs.append(_steps("flight", "Requests in flight", "requests", busy, over, window))
    caption = f"Mean of each {over.width:g} s.{_shaded(over, window)}"
    plots = [Plot(svg, caption) for svg in svgs]
    return plots + [_course(key, requests, over, window) for key in ("ttft", "e2e")
                    if any(r[key] is not None for r in series.whole(requests))]  # fmt: skip


Window = tuple[float, float]


def window_of(summary: Mapping[str, Any], over: Slices) -> Window:
    """The time of steady load; a beginning or an end too short to be seen belongs to it."""
    seconds = summary["seconds"]
    begin = seconds.get("ramp_up") or 0.0
    end, seen = begin + seconds["measured"], over.end / 200
    return (begin if begin > seen else 0.0, end if over.end - end > seen else over.end)


def _shaded(over: Slices, window: Window) -> str:
    if window == (0.0, over.end):
        return ""
    return f" Shaded: outside the window that counts ({window[0]:.2f} s to {window[1]:.2f} s)."


def time_axis(axes: Axes, over: Slices, window: Window) -> None:
    """The axis that all plots over time have in common, with what does not count shaded."""
    axes.set_xlim(0, over.end)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time since the start [s]")
    for begin, end in ((0.0, window[0]), (window[1], over.end)):
        if end > begin:
            axes.axvspan(begin, end, color=SHADE, zorder=0, linewidth=0)


def _steps(
    name: str, title: str, label: str, heights: Floats, over: Slices, window: Window
) -> str:  # fmt: skip
    def fill(axes: Axes) -> None:
        axes.stairs(heights, over.edges, color=BLUE, linewidth=1.4)
        time_axis(axes, over, window)
        axes.set_ylabel(label)

    return draw(name, title, fill)


def _course(key: str, requests: Requests, over: Slices, window: Window) -> Plot:
    course = series.course(requests, key, over)
    done = [r for r in series.whole(requests) if r[key] is not None]
    dots = len(done) <= MOST_DOTS

    def fill(axes: Axes) -> None:
        if dots:
            at = np.array([series.end_of(r) for r in done], dtype=np.float64)
            axes.plot(at, [r[key] * 1000 for r in done], "o", color=BLUE, markersize=2.5)
        else:
            low, middle, high = (x * 1000 for x in (course.least, course.median, course.greatest))
            axes.fill_between(course.times, low, high, color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(course.times, high, color=RED, linewidth=0.8, linestyle="--", label="longest")
            axes.plot(course.times, middle, color=BLUE, label="median")
            axes.legend(loc="upper right", fontsize=7.5, ncols=2)
            axes.set_ylim(top=axes.get_ylim()[1] * 1.12)  # room for the legend
        time_axis(axes, over, window)
        axes.set_ylabel(f"{LABELS[key]} [ms]")

    what = "Each request" if dots else f"Median and range of the requests of each {over.width:g} s"
    return Plot(
        draw(f"course-{key}", f"{LABELS[key]} over time", fill), f"{what}, at the time of its end."
    )


def errors(summary: Mapping[str, Any], requests: Requests) -> list[Plot]:
    """When requests failed, by class; nothing where none did."""
    over = series.slices(requests, most=40)
    if over is None or all(request["error"] is None for request in requests):
        return []
    counts = series.failures(requests, over)
    if len(counts) > len(COLOURS):  # the rarest ones together
        names = list(counts)
        rest = np.sum([counts.pop(name) for name in names[len(COLOURS) - 1 :]], axis=0)
        counts["others"] = rest

    def fill(axes: Axes) -> None:
        below = np.zeros(len(over.edges) - 1)
        for (name, each), colour, hatch in zip(counts.items(), COLOURS, _HATCHES, strict=False):
            axes.stairs(below + each, over.edges, baseline=below, fill=True, color=colour,
                        hatch=hatch, edgecolor=INK, linewidth=0, label=name)  # fmt: skip
            below = below + each
        axes.legend(loc="upper right", fontsize=7.5)
        time_axis(axes, over, window_of(summary, over))
        axes.set_ylim(0, max(1.0, float(below.max())) * 1.35)
        axes.set_ylabel("failed requests")

    svg = draw("errors", "Failures over time", fill)
    return [Plot(svg, f"Requests that failed in each {over.width:g} s, by class.")]


_HATCHES = ("", "////", "....", "xxxx")


# --- steps of retrieval ---


def steps_of_retrieval(requests: Requests) -> list[Plot]:
    """A bar of the steps that make up the mean E2E latency, and one of the slowest tenth's; nothing
    where no request had retrieval."""
    found = steps.steps_of(requests)
    if not found:
        return []
    groups = {"all": found, "slowest tenth": steps.slowest(found)}
    bars = {name: steps.mean(each) for name, each in groups.items() if each}

    def fill(axes: Axes) -> None:
        left = np.zeros(len(bars))
        for step, (colour, hatch) in _STEP_LOOKS.items():
            widths = np.array([max(0.0, bar[step]) * 1000 for bar in bars.values()])
            axes.barh(range(len(bars)), widths, left=left, height=0.55, color=colour, hatch=hatch,
                      edgecolor=INK, linewidth=0.4, label=step)  # fmt: skip
            left = left + widths
        axes.set_yticks(range(len(bars)), list(bars))
        axes.set_ylim(len(bars) - 0.5, -0.5 - 0.45 * len(bars))  # room for the legend
        axes.set_xlabel("time [ms], mean")
        axes.legend(loc="upper center", fontsize=7.5, ncols=3)

    svg = draw("steps", "Steps of a request", fill)
    return [Plot(svg, f"What the E2E latency of {len(found):,} requests is made of, on average.")]


_STEP_LOOKS = {
    "embed": (BLUE, ""), "search": (RED, ""), "load": (PINK, "...."), "prefill": (GREEN, ""),
    "decode": (PINK, ""), "rest": (GRID, "////"),
}  # fmt: skip


# --- replicas and sweeps ---


@dataclass(frozen=True)
class Line:
    """A line of a plot over the points of a sweep; None: that point has no such figure."""

    label: str
    heights: Sequence[float | None]


def replicas(
    names: Sequence[str], spreads: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Plot]:
    """Per figure (ttft, e2e) a row for each replica: p50 as a dot, and a line to p95."""
    return [_replicas(names, key, spread) for key, spread in spreads.items()]


def _replicas(names: Sequence[str], key: str, spread: Sequence[Mapping[str, Any]]) -> Plot:
    def fill(axes: Axes) -> None:
        for row, figures in enumerate(spread):
            if figures["p50"] is None:
                continue
            end = figures["p95"] if figures["p95"] is not None else figures["p50"]
            middle = figures["p50"] * 1000
            axes.plot([middle, end * 1000], [row, row], color=BLUE, linewidth=2)
            axes.plot(middle, row, "o", color=BLUE, markersize=5)
            axes.plot(end * 1000, row, "|", color=RED, markersize=9, markeredgewidth=2)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, axes.dataLim.xmax * 1.05)
        axes.set_xlabel(f"{LABELS[key]} [ms]")

    svg = draw(f"replicas-{key}", f"{LABELS[key]} by replica", fill)
    return Plot(svg, "Dot: p50; line up to the bar: p95 (no line where the requests are too few).")


def against(name: str, title: str, axis: tuple[str, str], at: Sequence[float],
            lines: Sequence[Line], valid: Sequence[bool]) -> str:  # fmt: skip
    """Lines over the points of a sweep; points that are not valid are hollow. `axis`: labels of
    x and y."""
    wide = len(at) > 2 and max(at) >= 8 * min(at) > 0

    def fill(axes: Axes) -> None:
        for line, colour, dash in zip(lines, COLOURS, DASHES, strict=False):
            known = [(x, y, ok) for x, y, ok in zip(at, line.heights, valid, strict=True)
                     if y is not None]  # fmt: skip
            axes.plot([x for x, _, _ in known], [y for _, y, _ in known], dash, color=colour,
                      label=line.label)  # fmt: skip
            for x, y, ok in known:
                axes.plot(x, y, "o", color=colour, markersize=4, fillstyle="full" if ok else "none")
        if wide:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(at))
            _plain(axes)
        axes.set_ylim(0, max(axes.dataLim.ymax, 1e-9) * 1.08)
        axes.set_xlabel(axis[0])
        axes.set_ylabel(axis[1])
        if len(lines) > 1:
            axes.legend(loc="best", fontsize=7.5)

    return draw(name, title, fill)


@dataclass(frozen=True)
class Interval:
    """A ratio and its interval; None: unknown."""

    label: str
    middle: float
    low: float | None
    high: float | None


def ratios(name: str, intervals: Sequence[Interval]) -> str:
    """A row for each ratio with its interval, and a line at 1, where nothing has changed."""

    def fill(axes: Axes) -> None:
        axes.axvline(1, color=INK, linewidth=0.8)
        for row, it in enumerate(intervals):
            if it.low is not None and it.high is not None:
                apart = not it.low <= 1 <= it.high
                colour = RED if apart else BLUE
                axes.plot([it.low, it.high], [row, row], color=colour, linewidth=2)
                axes.plot(it.middle, row, "s" if apart else "o", color=colour, markersize=4)
            else:
                axes.plot(it.middle, row, "o", color=BLUE, markersize=4, fillstyle="none")
        axes.set_yticks(range(len(intervals)), [it.label for it in intervals])
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        axes.set_xlabel("B / A")

    return draw(name, "Ratios", fill)
