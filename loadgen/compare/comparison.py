"""`python3 -m loadgen compare A B`: what changed from A to B, with intervals.

Several runs on each side are compared as runs; single ones by what they say of themselves, which
is less, and is said. Sweeps are compared point by point.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import write_whole
from loadgen import console
from loadgen.compare import changes, conditions, intervals
from loadgen.compare.changes import Section
from loadgen.compare.intervals import Change
from loadgen.measure.run_figures import RunFigure
from loadgen.outputs import curves, drawing, formatting, html, results, tables

MANY = (
    "Of many intervals of 95 %, about one in twenty misses the truth by chance: look for changes "
    "that agree with one another."
)

#: Of what was measured: what it is called, and what it is in A and B.
Fact = tuple[str, str, str]


# --- in words ---


def verdict(figure: RunFigure, change: Change) -> str:
    """Return what the interval says, in words."""
    if change.difference is None:
        return "no interval"
    if not change.shown:
        return "no difference shown"
    word = "higher" if change.b > change.a else "lower"
    return f"{word} ({'better' if word == figure.better else 'worse'})"


def cells(figure: RunFigure, change: Change) -> list[str]:
    """Return a row: figure, A, B, difference and its interval, ratio and its interval, verdict."""
    difference, ratio = change.b - change.a, change.b / change.a if change.a else None
    return [
        figure.label,
        formatting.number(change.a * figure.times),
        formatting.number(change.b * figure.times),
        f"{difference * figure.times:+,.2f} {_range(change.difference, figure.times, '+,.2f')}",
        f"{formatting.number(ratio, 3)} {_range(change.ratio, 1.0, ',.3f')}",
        verdict(figure, change),
    ]


def _range(interval: tuple[float, float] | None, times: float, spelled: str) -> str:
    if interval is None:
        return f"[{formatting.NA}]"
    return "[" + ", ".join(format(end * times, spelled) for end in interval) + "]"


HEAD = ("", "A", "B", "B - A [95 %]", "B / A [95 %]", "")


def as_text(
    names: tuple[str, str],
    measured: Sequence[Fact],
    found: Sequence[Section],
    warned: Sequence[str],
) -> str:
    """Return the whole comparison for a terminal."""
    out = [f"A: {names[0]}", f"B: {names[1]}"]
    out += [f"WARNING: {warning}" for warning in warned]
    if measured:
        out += ["", *_aligned([("", "A", "B"), *measured], words=(0, 1, 2))]
    for section in found:
        lines = [HEAD, *(cells(*change) for change in section.changes)]
        out += ["", section.title, *_aligned(lines, words=(0, len(HEAD) - 1))]
    return "\n".join([*out, "", *methods(found)])


def _aligned(lines: Sequence[Sequence[str]], words: Sequence[int]) -> list[str]:
    """The lines of a table; `words`: columns that begin at their left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def methods(found: Sequence[Section]) -> list[str]:
    """Return what the intervals mean."""
    kinds = list(dict.fromkeys(section.method for section in found))
    none = any(section.method == changes.WITHIN and section.changes and
               all(change.difference is None for _, change in section.changes)
               for section in found)  # fmt: skip
    few = ["Where there is no interval the requests are too few for one: fewer than "
           f"{intervals.FEWEST_BLOCKS} blocks of as many as are in flight at once."]  # fmt: skip
    return [*kinds, *(few if none else []), MANY]


def page(
    names: tuple[str, str],
    measured: Sequence[Fact],
    found: Sequence[Section],
    warned: Sequence[str],
) -> str:
    """Return the whole comparison as one HTML file."""
    facts = tables.Table("What was measured", ("", "A", "B"), measured, words=True)
    shown = [
        {
            "title": it.title,
            "table": tables.Table("Figures", HEAD, [cells(*change) for change in it.changes]),
            "plots": [drawing.Plot(curves.ratios(f"ratios-{n}", _ratios(it)), _CAPTION)],
        }
        for n, it in enumerate(found)
    ]
    return html.page("compare.html.j2", names=names, measured=facts, sections=shown,
                     warnings=warned, methods=methods(found), lines=_in_short(found))  # fmt: skip


_CAPTION = "Squares: the interval leaves out 1, where nothing has changed. Hollow: no interval."


def _ratios(section: Section) -> list[curves.Interval]:
    return [
        curves.Interval(figure.label, change.b / change.a, *(change.ratio or (None, None)))
        for figure, change in section.changes
        if change.a
    ]


def _in_short(found: Sequence[Section]) -> list[str]:
    """A sentence for each figure of which a difference is shown."""
    return [
        f"{f'{section.title}: ' if len(found) > 1 else ''}{figure.name} is "
        f"{verdict(figure, change)}: B / A {cells(figure, change)[4]}."
        for section in found
        for figure, change in section.changes
        if change.shown
    ]


# --- the command ---


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python3 -m loadgen compare",
        usage="%(prog)s (A B | --a DIR... --b DIR...) [--html FILE]",
        description="Say what changed from A to B, with intervals of 95 %. A folder is that of a "
        "run, of a sweep, or one that holds several of them: then each run is a unit.",
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="A B")
    parser.add_argument("--a", nargs="+", type=Path, metavar="DIR", help="folders of side A")
    parser.add_argument("--b", nargs="+", type=Path, metavar="DIR", help="folders of side B")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also as a page")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run `python3 -m loadgen compare A B`; return the exit code. Raises UsageError, OSError."""
    given = build_parser().parse_args(arguments)
    return _compare(*_sides(given), given.html)


def _sides(given: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    folders: list[Path] = given.folders
    if len(folders) == 2 and not given.a and not given.b:
        return [folders[0]], [folders[1]]
    if given.a and given.b and not folders:
        return given.a, given.b
    raise UsageError("compare takes two folders, A and B, or --a DIR... --b DIR... .")


def _compare(some: list[Path], others: list[Path], file: Path | None) -> int:
    a, b = results.read_side(some), results.read_side(others)
    found, warned = changes.sections(a, b), conditions.warnings(a, b)
    names = ", ".join(map(str, some)), ", ".join(map(str, others))
    measured = conditions.side_by_side(a, b)
    console.print_line(as_text(names, measured, found, warned))
    if file is not None:
        write_whole(file, [page(names, measured, found, warned)])
    return 0
