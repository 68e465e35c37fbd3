"""Numbers, intervals and verdicts as a campaign's report has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from campaign.report.figures import BY_KEY
from campaign.statistics import Difference, Estimate, Interval
from loadgen.measure.run_figures import RunFigure
from loadgen.outputs.formatting import NA, number


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, a smaller line below, and how it is marked: "better", "worse" or
    not at all."""

    text: str
    below: str = ""
    mark: str = ""


NOTHING = Cell(NA)


def digits_of(value: float) -> int:
    """Return how many digits after the point make three that count."""
    size = abs(value)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3


def short(value: float) -> str:
    """Return a number with three digits that count, or more before the point."""
    return number(float(value), digits_of(value))


def estimated(figure: RunFigure, found: Estimate | None) -> Cell:
    """Return a figure of a cell with its interval."""
    if found is None:
        return NOTHING
    value = found.value * figure.times
    if found.low is None or found.high is None:
        return Cell(short(value), "once")
    return Cell(short(value), between(found.low * figure.times, found.high * figure.times, value))


def between(low: float, high: float, like: float) -> str:
    """Return an interval with as many digits as a value."""
    digits = digits_of(like)
    return f"{number(float(low), digits)} to {number(float(high), digits)}"


def compared(found: Difference | None) -> Cell:
    """Return how a cell differs from another one, and whether that is more than chance."""
    if found is None:
        return NOTHING
    it = found.ratio or found.difference
    assert it is not None  # it is one of both
    text, below = _ratio(it) if found.ratio else _change(BY_KEY[found.figure], it)
    none = 1.0 if found.ratio else 0.0
    return Cell(text, below, verdict(found.figure, it.value - none) if found.real else "")


def _ratio(it: Interval) -> tuple[str, str]:
    return change_of(it.value), f"{change_of(it.low)} to {change_of(it.high)}"


def change_of(ratio: float) -> str:
    """Return a ratio as a change in percent; as it is beyond a factor of ten."""
    return f"{ratio - 1:+.1%}" if 0.1 <= ratio <= 10 else f"x{ratio:.2g}"


def _change(figure: RunFigure, it: Interval) -> tuple[str, str]:
    value, low, high = (end * figure.times for end in (it.value, it.low, it.high))
    return f"{value:+.3g}", f"{low:+.3g} to {high:+.3g}"


def verdict(figure: str, change: float) -> str:
    """Return whether a change of a figure is for the better."""
    return "better" if (change > 0) == (BY_KEY[figure].better == "higher") else "worse"


def turned(it: Difference) -> Difference:
    """Return the same difference seen from the other cell."""
    return Difference(
        figure=it.figure,
        cell=it.against,
        against=it.cell,
        ratio=it.ratio and Interval(1 / it.ratio.value, 1 / it.ratio.high, 1 / it.ratio.low),
        difference=it.difference
        and Interval(-it.difference.value, -it.difference.high, -it.difference.low),
        p=it.p,
        blocks=it.blocks,
    )


def with_names(sentence: str) -> str:
    """Return a sentence with figures by their names, not by their places in summary.json."""
    for key in sorted(BY_KEY, key=len, reverse=True):
        sentence = sentence.replace(key, BY_KEY[key].name)
    return sentence


#: What marks mean, for people and for those who do not see colours.
SIGNS: Mapping[str, str] = {"better": "▲ better", "worse": "▼ worse"}
