"""From files to points: read, cut, and hand over in batches to whoever owns the store.

What is there is not sent again, and what an earlier version of a file left is removed once the new
one is there whole. So a second run changes nothing, and completes one that was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from retrieval.chunks import Chunk, chunks_of, version_of
from retrieval.documents import MAX_FILE_BYTES, Document, Skipped, read_document
from retrieval.settings import Chunking

#: Chunks, and bytes of their texts, in one batch. The service's bodies have room for twice that.
BATCH_CHUNKS = 64
BATCH_BYTES = 500_000


class Points(Protocol):
    """Takes chunks of documents, as POST /points does (see docs/retrieval.md)."""

    def put(
        self, source: str, version: str, count: int, chunks: Sequence[Chunk]
    ) -> Mapping[str, Any]:
        """Store what is missing of `chunks`. The answer has `complete`: whether all `count` chunks
        of this version are there; then other versions are not, any more."""


@dataclass
class Progress:
    """How far an ingest is. Files: `files` in all, `done` of them, of which `unchanged` were there
    already and `skipped` cannot be read. Chunks: `added`; `present` before, of files that were
    ingested in part; `removed`: of earlier versions; `truncated`: longer than the embedding model
    reads."""

    files: int
    done: int = 0
    unchanged: int = 0
    added: int = 0
    present: int = 0
    removed: int = 0
    truncated: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def count(self, answer: Mapping[str, Any]) -> None:
        """Take in what became of a batch."""
        for name in ("added", "present", "removed", "truncated"):
            setattr(self, name, getattr(self, name) + int(answer.get(name, 0)))


def ingest(
    files: Sequence[Path],
    points: Points,
    chunking: Chunking,
    on_progress: Callable[[Progress], None] = lambda _: None,
    max_bytes: int = MAX_FILE_BYTES,
) -> Progress:
    """Bring all `files` (of `find_files`) into the store; `on_progress` is called after each batch
    and each file. Raises what `points` raises."""
    progress = Progress(files=len(files))
    for path in files:
        found = read_document(path, max_bytes)
        if isinstance(found, Skipped):
            progress.skipped.append(found)
        else:
            _ingest_document(found, points, chunking, progress, on_progress)
        progress.done += 1
        on_progress(progress)
    return progress


def _ingest_document(
    document: Document,
    points: Points,
    chunking: Chunking,
    progress: Progress,
    on_progress: Callable[[Progress], None],
) -> None:
    """The first look takes no chunks: most files have not changed since the last run."""
    version, source = version_of(document, chunking), document.source
    chunks = list(chunks_of(document, chunking))
    if not chunks:
        progress.skipped.append(Skipped(source, "empty", "there are only headings in it"))
        return
    first = points.put(source, version, len(chunks), [])
    progress.count(first)
    if first["complete"]:
        progress.unchanged += 1
        return
    for batch in batches(chunks):
        progress.count(points.put(source, version, len(chunks), batch))
        on_progress(progress)


def batches(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """The chunks in turn, as many in one batch as may be."""
    batch: list[Chunk] = []
    size = 0
    for chunk in chunks:
        own = len(chunk.text.encode("utf-8", "surrogatepass"))
        if batch and (len(batch) == BATCH_CHUNKS or size + own > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(chunk)
        size += own
    if batch:
        yield batch
