"""Plots of metrics.json: nodes and GPUs over the time of a run, on the axis of the latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from contracts.summary import Summary
from loadgen.outputs import drawing, plot_data, plots
from loadgen.outputs.drawing import BLUE, COLOURS, DASHES, Plot
from loadgen.outputs.plot_data import Floats, Requests, Slices
from loadgen.outputs.plots import Window
from loadgen.outputs.prometheus import Series, Snapshot


@dataclass(frozen=True)
class _Unit:
    """How a unit is shown: its name on the axis, by what values are divided, and where the axis
    ends at least."""

    label: str
    by: float = 1.0
    top: float = 0.0


_UNITS = {
    "percent": _Unit("%", top=103),
    "bytes": _Unit("GiB", by=2.0**30),
    "watts": _Unit("W"),
}
#: In this order. The others have plots of their own, made of the requests themselves, or none.
SHOWN = ("gpu", "gpu_power", "gpu_memory", "cpu", "memory")


def draw_plots(snapshot: Snapshot | None, summary: Summary, requests: Requests) -> list[Plot]:
    """Draw a plot for each kind of figure that there is."""
    over = plot_data.slices(requests)
    if snapshot is None or over is None:
        return []
    window, drawn = plots.steady_window(summary, over), []
    for name in SHOWN:
        found = [each for each in snapshot["series"] if each["name"] == name and each["points"]]
        if found:
            drawn.append(_plot(name, found, over, window))
    return drawn


def note(snapshot: Snapshot | None) -> str:
    """Return whose figures these are, and what is missing in them; empty if nobody was asked."""
    if snapshot is None:
        return ""
    step = snapshot["window"]["step_seconds"]
    words = f"As Prometheus saw it, every {step:g} s; rates are means of 15 s or more."
    return f"{words} {snapshot['problem']}" if "problem" in snapshot else words


def _plot(name: str, found: Sequence[Series], over: Slices, window: Window) -> Plot:
    unit, names = _UNITS[found[0]["unit"]], _names(found)
    few = len(found) <= len(COLOURS)

    def fill(axes: Axes) -> None:
        if few:
            _each(axes, found, names, unit)
        else:
            _range(axes, found, unit)
        plots.time_axis(axes, over, window)
        axes.set_ylim(0, max(unit.top, axes.dataLim.ymax * 1.08, 1e-9))
        axes.set_ylabel(unit.label)
        if len(found) > 1:
            axes.legend(loc="best", fontsize=7.5, ncols=2)

    caption = names[0] if len(found) == 1 else ""
    if not few:
        caption = f"Mean, least and greatest of {len(found)}."
    return Plot(drawing.draw(f"beside-{name}", found[0]["title"], fill), caption)


def _each(axes: Axes, found: Sequence[Series], names: Sequence[str], unit: _Unit) -> None:
    for one, label, colour, dash in zip(found, names, COLOURS, DASHES, strict=False):
        times, values = _points(one)
        axes.plot(times, values / unit.by, dash, color=colour, label=label)


def _range(axes: Axes, found: Sequence[Series], unit: _Unit) -> None:
    """All of them at the times that any of them has."""
    points = [_points(one) for one in found]
    times = np.unique(np.concatenate([each for each, _ in points]))
    every = np.array([np.interp(times, at, values / unit.by) for at, values in points])
    axes.fill_between(
        times, every.min(axis=0), every.max(axis=0), color=BLUE, alpha=0.2, linewidth=0,
        label="range",
    )  # fmt: skip
    axes.plot(times, every.mean(axis=0), color=BLUE, label="mean")


def _points(one: Series) -> tuple[Floats, Floats]:
    times, values = np.array(one["points"], dtype=np.float64).T
    return times, values


def _names(found: Sequence[Series]) -> list[str]:
    """What tells them apart: the GPU, the node, or both; and a GPU's UUID if that is not
    enough."""
    one_node = len({each["labels"].get("node") for each in found}) == 1
    names = []
    for each in found:
        labels = each["labels"]
        gpu = f"GPU {labels['gpu']}" if "gpu" in labels else ""
        node = "" if one_node and gpu and len(found) > 1 else labels.get("node", "")
        names.append(", ".join(word for word in (node, gpu) if word))
    return [
        f"{name} ({each['labels']['UUID'][:12]})"
        if names.count(name) > 1 and each["labels"].get("UUID")
        else name
        for name, each in zip(names, found, strict=True)
    ]
