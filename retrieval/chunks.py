"""Cutting documents into chunks: always in the same way, so that a second run changes nothing.

Tokens are counted without any model's tokenizer: a token is a run of at most six ASCII letters, of
at most three digits, or any other single character that is no space. For English that comes within
some percent of what models count, for other scripts it is more.

A chunk is the text as it stands in the document. It ends, by preference, at the end of a
paragraph, of a line, of a sentence or of a word in its second half; the next one begins `overlap`
tokens, or up to a half fewer, before that end. Sentences end as Unicode has it, also in scripts
without blanks, and what is seen as one character is never cut. In Markdown a chunk never reaches
across a heading, and knows all the headings that it is under.

All of it takes time in proportion to the text, whatever is in it.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from retrieval.markdown import sections_of
from retrieval.settings import Chunking

if TYPE_CHECKING:
    import regex

    from retrieval.documents import Document
    from retrieval.records import Metadata

#: A part of each digest: documents are embedded again if this module cuts in another way.
SCHEME = "2"

_NAMESPACE = uuid.UUID("6f1c8e0a-52c5-4b9f-9f43-0d6b6a3c7e11")
_TOKEN = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|\S")
#: A chunk has at most so many characters for each of its tokens, of which blanks are none.
_CHARACTERS = 16
#: Signs that end a sentence wherever they stand (beside Unicode's the semicolon and colon of full
#: width, and Tibetan's shad), with what closes it; and those of Latin script,
#: which also stand within numbers and names: there a blank must follow.
_SENTENCE_END = r"""(?V1)
    [[\p{Sentence_Terminal}--[.!?]]\uff1b\uff1a\u0f0d\u0f0e][\p{Sentence_Terminal}\p{Pe}\p{Pf}\p{M}"']*+
    | (?<latin>[.!?:;…\u037e]++[\p{Pe}\p{Pf}\p{Pi}\p{M}"']*+)"""
_CHARACTER = r"\X"
#: Words may be told apart after these, though no blank follows.
_SOFT_BLANKS = "\u3001\uff0c\uff64\ufe51\u200b"


@cache
def _pattern(text: str) -> regex.Pattern[str]:
    import regex  # whoever asks for vectors alone cuts nothing

    return regex.compile(text, regex.VERBOSE)


@dataclass(frozen=True)
class Chunk:
    """A piece of a document. `position`: its number in the document, from 0; `heading`: those
    above it, outermost first, joined with " > "."""

    position: int
    text: str
    heading: str
    metadata: Metadata


def point_id(collection: str, source: str, digest: str, position: int) -> str:
    """Return the id of a chunk's point: the same for the same chunk of the same content."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join([collection, source, digest, str(position)])))


def version_of(document: Document, chunking: Chunking) -> str:
    """Return what is in a document and how it is cut, as a digest (SHA-256, in hex)."""
    identity = f"{document.digest} {SCHEME} {chunking.tokens} {chunking.overlap}"
    return hashlib.sha256(identity.encode()).hexdigest()


def with_heading(heading: str, text: str) -> str:
    """Return what is embedded, and what a model is shown: a chunk below its headings."""
    return f"{heading}\n\n{text}" if heading else text


def count_tokens(text: str) -> int:
    """Return how many tokens a text has, as this module counts them."""
    return sum(1 for _ in _TOKEN.finditer(text))


def chunks_of(document: Document, chunking: Chunking) -> Iterator[Chunk]:
    """Yield the chunks of a document, in order."""
    position = 0
    for part in document.parts:
        sections = sections_of(part.text) if document.markdown else [("", part.text)]
        for heading, text in sections:
            # Headings count, but never leave less than half of the chunk.
            room = max(chunking.tokens - count_tokens(heading), chunking.tokens // 2, 1)
            for piece in split(text, room, min(chunking.overlap, room // 2)):
                yield Chunk(position, piece, heading, part.metadata)
                position += 1


# --- text ---


def split(text: str, size: int, overlap: int) -> Iterator[str]:
    """Yield pieces of at most `size` tokens, each of which repeats up to `overlap` of the last
    one's.

    What one repeats is at most half of it, so that each takes the text on by a quarter of `size`.
    """
    window = _window(text, 0, size)
    while window.ends:
        total = len(window.ends)
        if window.last:
            yield text[window.starts[0] : window.ends[-1]]
            return
        end = window.best((total + 1) // 2, total)
        yield text[window.starts[0] : window.ends[end - 1]]
        least = max(end - overlap, (end + 1) // 2)
        begin = window.best(least, max(least, end - overlap // 2))
        window = _window(text, window.starts[begin], size)


def _window(text: str, begin: int, size: int) -> _Window:
    """The tokens from `begin` on that one piece may have."""
    starts: list[int] = []
    ends: list[int] = []
    for token in _TOKEN.finditer(text, begin):
        starts.append(token.start())
        if len(ends) == size or token.end() - starts[0] > max(size, 2) * _CHARACTERS:
            return _Window(text, starts, ends, last=False)
        ends.append(token.end())
    return _Window(text, starts, ends, last=True)


class _Window:
    """Tokens, and where the text may be cut: gap i is before token i. Where they are not the `last`
    ones, `starts` has that of the next token, too."""

    def __init__(self, text: str, starts: list[int], ends: list[int], last: bool) -> None:
        self.starts = starts
        self.ends = ends
        self.last = last
        self._text = text
        self._sentence_ends = set() if last else _sentence_ends(text, starts[0], starts[-1])

    def best(self, low: int, high: int) -> int:
        """The last of the best gaps from `low` to `high`."""
        gap = max(range(low, high + 1), key=lambda gap: (self._rank(gap), gap))
        if self._rank(gap):
            return gap
        whole = self._between_characters()
        return next((gap for gap in range(high, low - 1, -1) if self.starts[gap] in whole), high)

    def _rank(self, gap: int) -> int:
        end = self.ends[gap - 1]
        between = self._text[end : self.starts[gap]]
        newlines = between.count("\n")
        if newlines:
            return min(newlines, 2) + 2
        if end in self._sentence_ends:
            return 2
        return 1 if between or self._text[end - 1] in _SOFT_BLANKS else 0

    def _between_characters(self) -> set[int]:
        """Places between two characters as they are seen: a letter with its marks is one."""
        begin = self.starts[0]
        part = self._text[begin : self.starts[-1] + 1]  # for flags regex looks back to the start
        if part.isascii():
            return set(self.starts)
        return {begin + found.end() for found in _pattern(_CHARACTER).finditer(part)}


def _sentence_ends(text: str, begin: int, end: int) -> set[int]:
    found = set()
    for sign in _pattern(_SENTENCE_END).finditer(text, begin, end):
        if not sign["latin"] or text[sign.end() : sign.end() + 1].isspace():
            found.add(sign.end())
    return found
