"""From files to points: read, cut, and hand over in batches to whoever owns the store.

What is there is not sent again, and what an earlier version of a file left is removed once the new
one is there whole. So a second run changes nothing, and completes one that was interrupted. What
cannot be read, or is refused for what is in it, is named and left out, and tried again then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypedDict

from retrieval.chunks import Chunk, chunks_of, version_of
from retrieval.documents import NAMED, Document, Skipped, read_document
from retrieval.errors import ChunksRefused
from retrieval.settings import Chunking
from retrieval.text import on_one_line

#: Chunks, and characters of them as JSON, in one batch. A body has room for far more.
BATCH_CHUNKS = 64
BATCH_CHARACTERS = 500_000


class RefusedChunk(TypedDict):
    """A chunk that the model does not embed, by its place in the document."""

    position: int
    reason: str


class Stored(TypedDict, total=False):
    """What became of chunks, as POST /points tells it. `points`: those of this version that are
    there; `complete`: whether these are all; then other versions are not, any more."""

    points: int
    complete: bool
    added: int
    present: int
    removed: int
    truncated: int
    refused: Sequence[RefusedChunk]


class ChunkSink(Protocol):
    """Takes chunks of documents, as POST /points does (see docs/retrieval.md)."""

    def put(self, source: str, version: str, count: int, chunks: Sequence[Chunk]) -> Stored:
        """Store what is missing of `chunks`, which are `count` with those before.

        Raises ChunksRefused if these chunks cannot be stored, for what is in them.
        """


@dataclass
class IngestProgress:
    """How far an ingest is. Files: `files` in all, `done` of them, of which `unchanged` were there
    already and `skipped` are left out. Chunks: `added`; `present` before, of files that were
    ingested in part; `removed`: of earlier versions; `truncated`: longer than the embedding model
    reads; `refused`: left out. `parts` are left out of files that are else ingested; `partly` names
    the first of each file. `copies` names files that have the content of another one."""

    files: int
    done: int = 0
    unchanged: int = 0
    added: int = 0
    present: int = 0
    removed: int = 0
    truncated: int = 0
    refused: int = 0
    parts: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    partly: list[Skipped] = field(default_factory=list)
    copies: list[Skipped] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        """Files, parts and chunks that are not in the store; another name of a file is no loss."""
        lost = [one for one in self.skipped if one.kind != "duplicate"]
        return len(lost) + self.parts + self.refused

    def count(self, answer: Stored) -> None:
        """Take in what became of a batch."""
        self.added += answer.get("added", 0)
        self.present += answer.get("present", 0)
        self.removed += answer.get("removed", 0)
        self.truncated += answer.get("truncated", 0)


def ingest(
    files: Sequence[Path | Skipped],
    points: ChunkSink,
    chunking: Chunking,
    on_progress: Callable[[IngestProgress], None] = lambda _: None,
) -> IngestProgress:
    """Bring all `files` (of `find_files`) into the store; `on_progress` is called after each batch
    and each file. Raises what `points` raises, but ChunksRefused."""
    progress = IngestProgress(files=len(files))
    first_with: dict[str, str] = {}
    for path in files:
        found = path if isinstance(path, Skipped) else read_document(path)
        if isinstance(found, Skipped):
            progress.skipped.append(found)
        else:
            first = first_with.setdefault(found.digest, found.source)
            if first != found.source:
                words = f"it has the same content as {first}"
                progress.copies.append(Skipped(found.source, "duplicate", words))
            _Handover(found, points, chunking, progress, on_progress).carry_out()
        progress.done += 1
        on_progress(progress)
    return progress


class _Handover:
    """Hands over one document."""

    def __init__(
        self,
        document: Document,
        points: ChunkSink,
        chunking: Chunking,
        progress: IngestProgress,
        on_progress: Callable[[IngestProgress], None],
    ) -> None:
        self._document = document
        self._version = version_of(document, chunking)
        self._chunks = list(chunks_of(document, chunking))
        self._points = points
        self._progress = progress
        self._on_progress = on_progress
        self._there = 0
        self._refused = 0
        self._named: list[Skipped] = []

    def carry_out(self) -> None:
        """The first question takes no chunks: most files have not changed since the last run."""
        source = self._document.source
        if not self._chunks:
            words = "there are only headings in it"
            self._progress.skipped.append(Skipped(source, "empty", words))
            return
        try:
            complete = self._put([])
        except ChunksRefused as error:  # its name, or how many there are
            self._progress.skipped.append(Skipped(source, "refused", str(error)))
            return
        self._note_parts()
        if complete:
            self._progress.unchanged += 1
            return
        for batch in batches(self._chunks):
            self._put_batch(batch)
            self._on_progress(self._progress)
        if self._refused:
            self._end_without_refused()

    def _put(self, chunks: Sequence[Chunk], count: int | None = None) -> bool:
        """Whether all are there. Raises ChunksRefused."""
        total = len(self._chunks) if count is None else count
        answer = self._points.put(self._document.source, self._version, total, chunks)
        self._progress.count(answer)
        self._there = answer.get("points", 0)
        for one in answer.get("refused", ()):
            self._refuse(one["position"], one["reason"])
        return bool(answer["complete"])

    def _put_batch(self, batch: Sequence[Chunk]) -> None:
        """Of a batch that is refused, each chunk alone."""
        try:
            self._put(batch)
        except ChunksRefused as error:
            if len(batch) == 1:
                self._refuse(batch[0].position, str(error))
                return
            for chunk in batch:
                self._put_batch([chunk])

    def _refuse(self, position: int, reason: str) -> None:
        self._refused += 1
        self._progress.refused += 1
        if self._refused <= NAMED:
            words = f"chunk {position} is refused: {on_one_line(reason)}"
            self._named.append(Skipped(self._document.source, "refused", words))

    def _end_without_refused(self) -> None:
        """What there is now is this version, and takes the place of earlier ones."""
        if self._there:
            self._put([], count=self._there)
            self._progress.partly += self._named
            return
        words = f"all of its {len(self._chunks)} chunks are refused; {self._named[0].words}"
        self._progress.skipped.append(Skipped(self._document.source, "refused", words))

    def _note_parts(self) -> None:
        left_out = self._document.left_out
        self._progress.parts += left_out.count
        words = [*left_out.words]
        if left_out.count > len(words):
            words.append(f"{left_out.count - len(words)} more parts are left out")
        source = self._document.source
        self._progress.partly += [Skipped(source, "part", sentence) for sentence in words]


def batches(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Yield the chunks in turn, as many in one batch as may be."""
    batch: list[Chunk] = []
    size = 0
    for chunk in chunks:
        own = len(json.dumps(asdict(chunk)))
        if batch and (len(batch) == BATCH_CHUNKS or size + own > BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(chunk)
        size += own
    if batch:
        yield batch
