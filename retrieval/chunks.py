"""Cutting documents into chunks: always in the same way, so that a second run changes nothing.

Tokens are counted without any model's tokenizer: a token is a run of at most six ASCII letters, of
at most three digits, or any other single character that is no space. For English that comes within
some percent of what models count, for other scripts it is more.

A chunk is the text as it stands in the document. It ends, by preference, at the end of a
paragraph, of a line, of a sentence or of a word in its second half; the next one begins `overlap`
tokens, or up to a half fewer, before that end. In Markdown a chunk never reaches across a heading,
and knows all the headings that it is under.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval.documents import Document, Metadata
from retrieval.settings import Chunking

#: A part of each digest: documents are embedded again where this module cuts in another way.
SCHEME = "1"

_NAMESPACE = uuid.UUID("6f1c8e0a-52c5-4b9f-9f43-0d6b6a3c7e11")
_TOKEN = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|\S")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_SENTENCE_ENDS = ".!?:;"


@dataclass(frozen=True)
class Chunk:
    """A piece of a document. `position`: its number in the document, from 0; `heading`: those
    above it, outermost first, joined with " > "."""

    position: int
    text: str
    heading: str
    metadata: Metadata


def point_id(collection: str, source: str, digest: str, position: int) -> str:
    """The id of a chunk's point: the same for the same chunk of the same content."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join([collection, source, digest, str(position)])))


def version_of(document: Document, chunking: Chunking) -> str:
    """What is in a document and how it is cut, as a digest (SHA-256, in hex)."""
    said = f"{document.digest} {SCHEME} {chunking.tokens} {chunking.overlap}"
    return hashlib.sha256(said.encode()).hexdigest()


def with_heading(heading: str, text: str) -> str:
    """What is embedded, and what a model is shown: a chunk below its headings."""
    return f"{heading}\n\n{text}" if heading else text


def count_tokens(text: str) -> int:
    """Tokens of a text, as this module counts them."""
    return sum(1 for _ in _TOKEN.finditer(text))


def chunks_of(document: Document, chunking: Chunking) -> Iterator[Chunk]:
    """The chunks of a document, in order."""
    position = 0
    for part in document.parts:
        sections = _sections(part.text) if document.markdown else [("", part.text)]
        for heading, text in sections:
            # Headings count, but never leave less than half of the chunk.
            room = max(chunking.tokens - count_tokens(heading), chunking.tokens // 2, 1)
            for piece in split(text, room, min(chunking.overlap, room // 2)):
                yield Chunk(position, piece, heading, part.metadata)
                position += 1


# --- Markdown ---


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings and the text below them, up to the next one; in a fenced block there is none."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        heading = None if fence else _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        yield _joined(path), "\n".join(lines)
        level, lines = len(heading[1]), []
        path = [(above, title) for above, title in path if above < level] + [(level, heading[2])]
    yield _joined(path), "\n".join(lines)


def _joined(path: Sequence[tuple[int, str]]) -> str:
    return " > ".join(title[:200] for _, title in path if title)


# --- text ---


def split(text: str, size: int, overlap: int) -> Iterator[str]:
    """Pieces of at most `size` tokens, each of which repeats up to `overlap` of the last one's."""
    starts, ends = array("q"), array("q")
    for token in _TOKEN.finditer(text):
        starts.append(token.start())
        ends.append(token.end())
    gaps = _Gaps(text, starts, ends)
    first, total = 0, len(starts)
    while first < total:
        last = min(first + size, total)
        if last < total:
            last = gaps.best(first + (size + 1) // 2, last)
        yield text[starts[first] : ends[last - 1]]
        if last == total:
            return
        first = max(gaps.best(last - overlap, last - overlap // 2), first + 1)


@dataclass(frozen=True)
class _Gaps:
    """Where a text may be cut: gap i is before token i."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def best(self, low: int, high: int) -> int:
        """The last of the best gaps from `low` to `high`."""
        return max(range(low, high + 1), key=lambda gap: (self._rank(gap), gap))

    def _rank(self, gap: int) -> int:
        between = self.text[self.ends[gap - 1] : self.starts[gap]]
        newlines = between.count("\n")
        if newlines:
            return min(newlines, 2) + 2
        if between and self.text[self.ends[gap - 1] - 1] in _SENTENCE_ENDS:
            return 2
        return 1 if between else 0
