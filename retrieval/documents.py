"""Reading documents: text, Markdown, JSONL and PDF; what cannot be read is named and left out."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retrieval.bounds import MAX_SOURCE
from retrieval.errors import Unusable
from retrieval.finding import Skipped as Skipped
from retrieval.finding import find_files as find_files
from retrieval.finding import source_name
from retrieval.pdf import read_pages
from retrieval.records import Metadata, json_record, lines_of
from retrieval.text import decoded, is_visible, on_one_line, storable, with_plain_line_ends

#: A larger file is more likely a data set or an archive than a document.
MAX_FILE_BYTES = 100_000_000
#: Parts of one file that are named one by one if they are left out.
NAMED = 5


@dataclass(frozen=True)
class Part:
    """A piece of a document that no chunk reaches across: a page, a record, or all of it."""

    text: str
    metadata: Metadata = field(default_factory=dict)


@dataclass
class LeftOut:
    """Parts of a file that were left out: how many, and the first of them in words."""

    count: int = 0
    words: list[str] = field(default_factory=list)

    def add(self, words: str) -> None:
        """Count one more."""
        self.count += 1
        if self.count <= NAMED:
            self.words.append(words)


@dataclass(frozen=True)
class Document:
    """A file's text. `source`: its absolute path; `digest`: SHA-256 of its bytes, in hex."""

    source: str
    digest: str
    parts: Sequence[Part]
    markdown: bool = False
    left_out: LeftOut = field(default_factory=LeftOut)


def read_document(path: Path, max_bytes: int = MAX_FILE_BYTES) -> Document | Skipped:
    """Return the document at `path`, an absolute path, or why it is left out. Of a file of more
    than `max_bytes` nothing is read."""
    source, left_out = source_name(path), LeftOut()
    try:
        if len(source) > MAX_SOURCE:
            raise Unusable("unreadable", f"its path has more than {MAX_SOURCE} characters")
        reader = _reader(path)
        data = _read(path, max_bytes)
        parts = [part for part in reader(data, left_out) if is_visible(part.text)]
        if not parts:
            raise _without_text(left_out)
    except Unusable as error:
        return Skipped(source, error.kind, on_one_line(str(error)))
    except Exception as error:  # noqa: BLE001  # whatever reading raises is about this file alone
        words = f"it cannot be read: {type(error).__name__}: {error}"
        return Skipped(source, "unreadable", on_one_line(words))
    digest = hashlib.sha256(data).hexdigest()
    return Document(source, digest, parts, path.suffix.lower() in _MARKDOWN, left_out)


def _without_text(left_out: LeftOut) -> Unusable:
    if left_out.words:
        return Unusable("unreadable", left_out.words[0])
    return Unusable("empty", "there is no text in it")


def _read(path: Path, max_bytes: int) -> bytes:
    """All bytes of a regular file; a pipe or a device is not even opened."""
    try:
        size = _size(path.stat())
        if size <= max_bytes:
            # It may have become something else, or longer, in the meantime.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
                _size(os.fstat(file.fileno()))
                data = file.read(max_bytes + 1)
            size = max(size, len(data))
    except OSError as error:
        raise Unusable("unreadable", f"it cannot be read: {error.strerror}") from error
    if size > max_bytes:
        words = f"it has {size / 1e6:.1f} MB; at most {max_bytes / 1e6:g} MB are read"
        raise Unusable("too large", words)
    if not data.strip():
        raise Unusable("empty", "there is nothing in it")
    return data


def _size(known: os.stat_result) -> int:
    if not stat.S_ISREG(known.st_mode):
        raise Unusable("unreadable", "it is no regular file")
    return known.st_size


_Reader = Callable[[bytes, LeftOut], Sequence[Part]]


def _reader(path: Path) -> _Reader:
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        known = " ".join(sorted(_READERS))
        raise Unusable("not known", f"its name ends in none of {known}")
    return _READERS[suffix]


# --- each kind ---


def _part(text: str, metadata: Metadata | None = None) -> Part:
    return Part(with_plain_line_ends(storable(text)), metadata or {})


def _text(data: bytes, _: LeftOut) -> Sequence[Part]:
    return [_part(decoded(data))]


def _jsonl(data: bytes, left_out: LeftOut) -> Sequence[Part]:
    parts = []
    for number, line in lines_of(decoded(data)):
        try:
            record = json_record(line, number)
        except Unusable as error:
            left_out.add(str(error))
            continue
        parts.append(_part(record.text, record.metadata))
        if record.dropped:
            keys = ", ".join(on_one_line(key, 40) for key in record.dropped[:NAMED])
            left_out.add(f"line {number} has no room for {len(record.dropped)} fields ({keys})")
    return parts


def _pdf(data: bytes, left_out: LeftOut) -> Sequence[Part]:
    pages = read_pages(data)
    for problem in pages.problems:
        left_out.add(problem)
    return [_part(text, {"page": number}) for number, text in pages.texts.items()]


_MARKDOWN = (".md", ".markdown")
_READERS: dict[str, _Reader] = {
    ".txt": _text,
    ".text": _text,
    **dict.fromkeys(_MARKDOWN, _text),
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".pdf": _pdf,
}
