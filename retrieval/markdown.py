"""The headings of Markdown, as CommonMark has them, and the text below each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?", re.DOTALL)
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)", re.DOTALL)
#: With these a line begins that is no plain text: a quotation, a list, a table, code.
_NOT_PLAIN = re.compile(r" {4}|\t| {0,3}(?:[>|]|[-+*][ \t]|[0-9]{1,9}[.)][ \t])")
#: Of a heading so much is kept.
_TITLE_CHARACTERS = 200


def sections_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield headings, joined with " > ", and the text below them, up to the next one. In a fenced
    block, and in the metadata that a file may begin with, there is none."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    for line, level, title in _read(text.split("\n")):
        if not level:
            lines.append(line)
            continue
        if line:  # the title is the line above, and was taken for text
            lines.pop()
        yield _joined(path), "\n".join(lines)
        lines = []
        path = [(above, known) for above, known in path if above < level] + [(level, title)]
    yield _joined(path), "\n".join(lines)


def _read(lines: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Each line, and of a heading its level and title; the line of one with `#` comes empty."""
    fence, above, before = "", "", ""
    first = _after_metadata(lines)
    for number, line in enumerate(lines):
        fence, inside = _fenced(line, fence)
        if inside or number < first:
            above = before = ""
            yield line, 0, ""
        elif found := _HEADING.fullmatch(line):
            above = before = ""
            yield "", len(found[1]), _title(found[2] or "")
        elif _is_alone(above, before) and (under := _UNDERLINE.fullmatch(line)):
            yield line, 1 if under[1][0] == "=" else 2, " ".join(above.split())
            above = before = ""
        else:
            above, before = line, above
            yield line, 0, ""


def _after_metadata(lines: Sequence[str]) -> int:
    """The first line that is no metadata: a file may begin with some between two lines of ---."""
    if lines[0].rstrip() != "---":
        return 0
    ends = (number for number, line in enumerate(lines) if number and line.rstrip() == "---")
    return next(ends, -1) + 1


def _fenced(line: str, fence: str) -> tuple[str, bool]:
    """The fence that is open after a line, and whether the line belongs to a fenced block."""
    mark = _FENCE.fullmatch(line)
    if not fence:
        opens = mark is not None and not (mark[1][0] == "`" and "`" in mark[2])
        return (mark[1] if mark and opens else ""), opens
    closes = mark is not None and mark[1].startswith(fence) and not mark[2].strip(" \t")
    return ("" if closes else fence), True


def _is_alone(line: str, before: str) -> bool:
    """Whether a line is plain text, with nothing right above it."""
    return bool(line.strip()) and not before.strip() and not _NOT_PLAIN.match(line)


def _title(text: str) -> str:
    """Without the closing signs, which a blank is before."""
    text = text.strip(" \t")
    stem = text.rstrip("#")
    return " ".join((text if stem and stem[-1] not in " \t" else stem).split())


def _joined(path: Sequence[tuple[int, str]]) -> str:
    return " > ".join(title[:_TITLE_CHARACTERS] for _, title in path if title)
