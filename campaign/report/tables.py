"""results.csv: a row for each repetition; and how settings and cells are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from campaign.cells import Cell, Setting, levels_of
from campaign.report.reading import Material
from loadgen.outputs.requests_csv import csv_line


def spelled(value: Setting) -> str:
    """Return a setting as people read it: a path by its last part."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).rstrip("/").rpartition("/")[2] if "/" in str(value) else str(value)


def told_apart(value: Setting, path: str, cells: Sequence[Cell]) -> str:
    """Return a setting as people read it; in full if another one of its path is spelled alike."""
    short = spelled(value)
    levels = {cell.settings[path] for cell in cells if path in cell.settings}
    return str(value) if any(one != value and spelled(one) == short for one in levels) else short


def factors(cells: Sequence[Cell]) -> dict[str, str]:
    """Return what each path that is varied is called: its last part, or more of it if two have the
    same."""
    paths = list(levels_of(cells))
    return {path: _short(path, paths) for path in paths}


def _short(path: str, paths: Sequence[str]) -> str:
    parts = path.split(".")
    for count in range(1, len(parts)):
        end = parts[-count:]
        if sum(other.split(".")[-count:] == end for other in paths) == 1:
            return ".".join(end)
    return path


def csv_lines(material: Material) -> Iterator[str]:
    """Yield the head and a line for each repetition, in the order in which they were measured:
    settings by their paths, figures by their places in summary.json, empty if not known."""
    paths = list(factors(material.cells))
    keys = sorted({key for one in material.observations for key in one.figures})
    settings = {cell.key: cell.settings for cell in material.cells}
    yield csv_line(["cell", *paths, "block", "order", "state", "run", "problem", *keys])
    for one in material.observations:
        of_cell = settings.get(one.cell, {})
        yield csv_line(
            [
                one.cell,
                *(of_cell.get(path) for path in paths),
                *(one.block, one.order, one.state, one.run, one.problem),
                *(one.figures.get(key) for key in keys),
            ]
        )
