"""The plots of the reports; `loadgen.outputs.drawing` says how each stands in the page."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from contracts.figures import COURSES, DRAWN, Figure
from contracts.summary import Distribution, Summary
from loadgen.outputs import formatting, plot_data, steps
from loadgen.outputs.drawing import (
    BLUE,
    COLOURS,
    GREEN,
    GRID,
    INK,
    PINK,
    RED,
    SHADE,
    Plot,
    draw,
    plain,
)
from loadgen.outputs.plot_data import Floats, Requests, Slices

MOST_DOTS = 300


# --- distributions ---


def distributions(summary: Summary, requests: Requests) -> list[Plot]:
    """Draw how latencies are distributed; without those of which there is nothing."""
    return [
        _distribution(figure, found, summary.latency(figure.key))
        for figure in DRAWN
        if len(found := plot_data.values(requests, figure.key))
    ]


def _distribution(figure: Figure, found: Floats, figures: Distribution) -> Plot:
    x, share = plot_data.ecdf(found * 1000)
    what = "requests" if figure.each is None else figure.recorded
    wide = bool(x[-1] > 5 * np.median(found) * 1000 > 0)

    def fill(axes: Axes) -> None:
        axes.plot(np.append(x[:1], x), np.append(0, share), color=BLUE, drawstyle="steps-post")
        if wide:
            axes.set_xscale("log")
            axes.set_xlim(left=x[x > 0][0])  # shares of 0 are the height at which it begins
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            plain(axes)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(f"{figure.label} [ms]{', logarithmic' if wide else ''}")
        axes.set_ylabel(f"share of {what}")
        _mark(axes, figures)

    return Plot(
        draw(f"ecdf-{figure.key}", f"{figure.label}: distribution", fill),
        f"Share of the {len(found):,} {what} that took no longer.",
    )


def _mark(axes: Axes, figures: Distribution) -> None:
    """The percentiles that the summary has, as marks on the line and in a legend."""
    for percent, mark in ((50, "o"), (90, "s"), (99, "^")):
        at = figures.at(f"p{percent}")
        if at is not None:
            label = f"p{percent}: {formatting.ms(at)} ms"
            axes.plot(at * 1000, percent / 100, mark, color=RED, markersize=4, label=label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=7.5)


# --- over time ---


def over_time(summary: Summary, requests: Requests) -> list[Plot]:
    """Draw throughput, requests in flight and latencies over the time of the run."""
    over = plot_data.slices(requests)
    if over is None:
        return []
    window = steady_window(summary, over)
    busy, svgs = plot_data.in_flight(requests, over), []
    if done := plot_data.whole(requests):
        tokens = plot_data.tokens_per_second(requests, over)
        svgs.append(_steps("tokens", "Throughput", "output tokens/s", tokens, over, window))
    svgs.append(_steps("flight", "Requests in flight", "requests", busy, over, window))
    caption = f"Mean of each {over.width:g} s.{_shaded(over, window)}"
    plots = [Plot(svg, caption) for svg in svgs]
    known = [it for it in COURSES if any(r.get(it.key) is not None for r in done)]
    return plots + [_course(figure, requests, over, window) for figure in known]


Window = tuple[float, float]


def steady_window(summary: Summary, over: Slices) -> Window:
    """Return the time of steady load; a beginning or an end too short to be seen belongs to it."""
    begin = summary.seconds.ramp_up or 0.0
    end, seen = begin + summary.seconds.measured, over.end / 200
    return (begin if begin > seen else 0.0, end if over.end - end > seen else over.end)


def _shaded(over: Slices, window: Window) -> str:
    if window == (0.0, over.end):
        return ""
    return f" Shaded: outside the window that counts ({window[0]:.2f} s to {window[1]:.2f} s)."


def time_axis(axes: Axes, over: Slices, window: Window) -> None:
    """Set up the axis that all plots over time have in common, with what does not count shaded."""
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


def _course(figure: Figure, requests: Requests, over: Slices, window: Window) -> Plot:
    key, title = figure.key, f"{figure.label} over time"
    course = plot_data.course(requests, key, over)
    done = plot_data.by_end(requests, key)
    dots = len(done) <= MOST_DOTS

    def fill(axes: Axes) -> None:
        if dots:
            axes.plot(done[:, 0], done[:, 1] * 1000, "o", color=BLUE, markersize=2.5)
        else:
            low, middle, high = (x * 1000 for x in (course.least, course.median, course.greatest))
            axes.fill_between(course.times, low, high, color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(course.times, high, color=RED, linewidth=0.8, linestyle="--", label="longest")
            axes.plot(course.times, middle, color=BLUE, label="median")
            axes.legend(loc="upper right", fontsize=7.5, ncols=2)
            axes.set_ylim(top=axes.get_ylim()[1] * 1.12)  # room for the legend
        time_axis(axes, over, window)
        axes.set_ylabel(f"{figure.label} [ms]")

    what = "Each request" if dots else f"Median and range of the requests of each {over.width:g} s"
    return Plot(draw(f"course-{key}", title, fill), f"{what}, at the time of its end.")


def errors(summary: Summary, requests: Requests) -> list[Plot]:
    """Draw when requests failed, by class; nothing if none did."""
    over = plot_data.slices(requests, most=40)
    if over is None or all(request["error"] is None for request in requests):
        return []
    counts = plot_data.failures(requests, over)
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
        time_axis(axes, over, steady_window(summary, over))
        axes.set_ylim(0, max(1.0, float(below.max())) * 1.35)
        axes.set_ylabel("failed requests")

    svg = draw("errors", "Failures over time", fill)
    return [Plot(svg, f"Requests that failed in each {over.width:g} s, by class.")]


_HATCHES = ("", "////", "....", "xxxx")


# --- steps of retrieval ---


def steps_of_retrieval(requests: Requests) -> list[Plot]:
    """Draw a bar of the steps that make up the mean E2E latency, and one of the slowest tenth's;
    nothing if no request had retrieval."""
    found = steps.steps_of(requests)
    if not found:
        return []
    groups = {"all": found, "slowest tenth": steps.slowest(found)}
    bars = {name: steps.mean(each) for name, each in groups.items() if each}

    def fill(axes: Axes) -> None:
        left = np.zeros(len(bars))
        for step, (colour, hatch) in _STEP_STYLES.items():
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


_STEP_STYLES = {
    "embed": (BLUE, ""), "search": (RED, ""), "load": (PINK, "...."), "prefill": (GREEN, ""),
    "decode": (PINK, ""), "rest": (GRID, "////"),
}  # fmt: skip
