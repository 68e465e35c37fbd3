"""One plot: an SVG element that stands in the page itself.

Text stays text and takes the page's font. Colours are the page's custom properties, so that one
plot fits a light page, a dark one and paper. Ids are made unique by the plot's name. No global
state of matplotlib is used but its settings, for the time of drawing one plot.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

# If the home folder cannot be written it says so each time; nobody needs to know.
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


@dataclass(frozen=True)
class Plot:
    """A plot and the sentence below it."""

    svg: str
    caption: str


def draw(
    name: str,
    title: str,
    fill: Callable[[Axes], None],
    size_in: tuple[float, float] = SIZE_IN,
    points: float = 8.5,
) -> str:
    """Return an SVG element that `fill` draws into; `name` is unique in the page, `points` the
    size of its text."""
    with rc_context(_SETTINGS | {"svg.hashsalt": name, "font.size": points}):
        figure = Figure(figsize=size_in, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(True, which="major")
        fill(axes)
        axes.set_title(title, loc="left", fontsize=points + 0.5, fontweight="bold")
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


def plain(axes: Axes) -> None:
    """Show numbers on a logarithmic x axis as people write them: 20, not 2x10^1."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
