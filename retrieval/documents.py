"""Reading documents: text, Markdown, JSONL and PDF; what cannot be read is named and left out."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieval.errors import NoDocuments

#: A larger file is more likely a data set or an archive than a document.
MAX_FILE_BYTES = 100_000_000

Metadata = Mapping[str, str | int | float | bool | list[str]]


@dataclass(frozen=True)
class Part:
    """A piece of a document that no chunk reaches across: a page, a record, or all of it."""

    text: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """A file's text. `source`: its absolute path; `digest`: SHA-256 of its bytes, in hex."""

    source: str
    digest: str
    parts: Sequence[Part]
    markdown: bool = False


@dataclass(frozen=True)
class Skipped:
    """A file that was left out. `kind`: empty, binary, too large, unreadable or not known."""

    source: str
    kind: str
    words: str


class _Unusable(Exception):
    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files at and below `paths`, absolute, sorted, each once; hidden ones are left out.

    Raises NoDocuments where a path does not exist, or there is no file at all.
    """
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise NoDocuments(f"there is no {path}; name a file or a folder that exists.")
        found.update(_files_below(path.resolve()) if path.is_dir() else [path.resolve()])
    if not found:
        raise NoDocuments(f"there is no file in {', '.join(map(str, paths))}.")
    return sorted(found)


def _files_below(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def read_document(path: Path, max_bytes: int = MAX_FILE_BYTES) -> Document | Skipped:
    """The document at `path`, an absolute path, or why it is left out. Of a file of more than
    `max_bytes` nothing is read."""
    try:
        data = _read(path, max_bytes)
        parts = [part for part in _reader(path)(data) if part.text.strip()]
        if not parts:
            raise _Unusable("empty", "there is no text in it")
    except _Unusable as error:
        return Skipped(str(path), error.kind, str(error))
    digest = hashlib.sha256(data).hexdigest()
    return Document(str(path), digest, parts, path.suffix.lower() in _MARKDOWN)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise _Unusable("unreadable", "it is no regular file")
        if size > max_bytes:
            words = f"it has {size / 1e6:.1f} MB; at most {max_bytes / 1e6:g} MB are read"
            raise _Unusable("too large", words)
        data = path.read_bytes()
    except OSError as error:
        raise _Unusable("unreadable", f"it cannot be read: {error.strerror}") from error
    if not data.strip():
        raise _Unusable("empty", "there is nothing in it")
    return data


def _reader(path: Path) -> Callable[[bytes], Sequence[Part]]:
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        known = " ".join(sorted(_READERS))
        raise _Unusable("not known", f"its name ends in none of {known}")
    return _READERS[suffix]


# --- text ---


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data:
        raise _Unusable("binary", "it is binary, not text")
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        words = f"it is not {encoding[:6].upper().rstrip('-')} (byte {error.start})"
        raise _Unusable("binary", words) from error


def _text(data: bytes) -> Sequence[Part]:
    return [Part(_decoded(data))]


# --- JSONL ---


def _jsonl(data: bytes) -> Sequence[Part]:
    lines = enumerate(_decoded(data).split("\n"), 1)
    return [_record(line, number) for number, line in lines if line.strip()]


def _record(line: str, number: int) -> Part:
    """One line: the object's "text"; everything else of it that is plain is metadata."""
    try:
        record = json.loads(line)
        text, more = record.pop("text"), record.pop("metadata", None) or {}
        if not isinstance(text, str):
            raise TypeError
        metadata = {str(key): value for key, value in {**record, **more}.items() if _plain(value)}
    except (ValueError, RecursionError) as error:
        raise _Unusable("unreadable", f"line {number} is not JSON") from error
    except (KeyError, TypeError, AttributeError) as error:
        words = f'line {number} is no object with a "text" that is a string'
        raise _Unusable("unreadable", words) from error
    # Half of a surrogate pair is no text that could be stored.
    return Part(text.encode("utf-8", "replace").decode(), {**metadata, "line": number})


def _plain(value: Any) -> bool:
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return texts or isinstance(value, (str, int, float, bool))


# --- PDF ---


def _pdf(data: bytes) -> Sequence[Part]:
    import pypdf  # takes a tenth of a second, which only PDF files are worth
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            raise _Unusable("unreadable", "it is a PDF file that asks for a password")
        pages = [page.extract_text() for page in reader.pages]
    except (PyPdfError, *_OF_PYTHON) as error:
        raise _Unusable("unreadable", f"it is no PDF file that can be read: {error}") from error
    return [Part(text, {"page": number}) for number, text in enumerate(pages, 1)]


#: pypdf lets through what Python raises where a file is not what it says.
_OF_PYTHON = (LookupError, ValueError, TypeError, AttributeError, RecursionError)
_MARKDOWN = (".md", ".markdown")
_READERS: dict[str, Callable[[bytes], Sequence[Part]]] = {
    ".txt": _text,
    ".text": _text,
    **dict.fromkeys(_MARKDOWN, _text),
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".pdf": _pdf,
}
