"""Ingest: files of this host are read and cut here, and go to the client service in batches.

The service owns the store in every mode, and says of each batch what became of it; so a run that is
interrupted loses nothing that was acknowledged, and the next one completes it. What the service
refuses for what is in it is left out; only a service that is gone ends an ingest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from contracts.errors import ServiceError, UsageError
from hpc.console import Console, Rows
from hpc.lines import LINE_EVERY_S, Lines, waited
from hpc.recipe.sections import Retrieval
from hpc.web import Answer, NoAnswer, call
from retrieval.chunks import Chunk
from retrieval.documents import find_files
from retrieval.errors import ChunksRefused, NoDocuments
from retrieval.finding import Skipped
from retrieval.ingest import IngestProgress, Stored, ingest
from retrieval.settings import Chunking
from retrieval.text import on_one_line

#: For one batch: the service itself gives up on Ollama sooner, with a reason.
BATCH_TIMEOUT_S = 3600.0
#: A service that fails for so long is gone; in between it is asked again. One that says that it
#: cannot answer now may be waiting for the storage at a hand-over (docs/handover.md).
PATIENCE_S, UNAVAILABLE_S, PAUSE_S = 10.0, 120.0, 1.0
#: What a service answers that would take another body, and one that may take this one later.
_CONTENT = (400, 413, 422, 500)
_UNAVAILABLE = 503
_LATER = (429, 502, _UNAVAILABLE, 504)
#: Files that are named one by one when they cannot be read.
SHOWN = 20


class ServicePoints:
    """Hands chunks to the client service at `url`, which is sent the token of a file, if there is
    one."""

    def __init__(self, url: str, token_file: Path | None = None) -> None:
        self._url = url
        self._token_file = token_file

    def put(self, source: str, version: str, count: int, chunks: Sequence[Chunk]) -> Stored:
        """POST /points. Raises ChunksRefused, or ServiceError, in the service's own words."""
        body = {"source": source, "version": version, "count": count}
        answer = self._patiently({**body, "chunks": [asdict(chunk) for chunk in chunks]}, source)
        if answer.status in _CONTENT:
            raise ChunksRefused(answer.error)
        if answer.status != 200 or "complete" not in answer.json:
            raise _broke_off(source, answer.error)
        return cast("Stored", answer.json)

    def _patiently(self, body: object, source: str) -> Answer:
        """The answer, which is no error of the moment. Raises ServiceError."""
        began = time.monotonic()
        while True:
            patience_s = PATIENCE_S
            try:
                answer = call(
                    "POST", f"{self._url}/points", body, BATCH_TIMEOUT_S, self._token_file
                )
                if answer.status not in _LATER:
                    return answer
                problem = answer.error
                if answer.status == _UNAVAILABLE:
                    patience_s = UNAVAILABLE_S
            except NoAnswer as error:
                problem = error.message
            if time.monotonic() + PAUSE_S > began + patience_s:
                raise _broke_off(source, problem)
            time.sleep(PAUSE_S)


def _broke_off(source: str, problem: str) -> ServiceError:
    return ServiceError(
        f"the ingest broke off at {on_one_line(source)}: {problem.rstrip('.')}; run it again, it "
        "goes on from there."
    )


class Telling:
    """What is shown of a running ingest; `say` gets the lines of a log, also when nothing new is
    told."""

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        files: int = 0,
    ) -> None:
        self._clock = clock
        self._lines = Lines(say, self._line, clock)
        self._began = self._moved_at = clock()
        self._seen = IngestProgress(files=files)
        self._counts = (0, 0)

    @property
    def seen(self) -> IngestProgress:
        """What was taken in last."""
        return self._seen

    def take(self, progress: IngestProgress) -> None:
        """Take in what is known now, and say it when a line is due."""
        counts = (progress.done, progress.added)  # the object is the same each time
        if counts != self._counts:
            self._counts, self._moved_at = counts, self._clock()
        self._seen = progress
        self.tick()

    def tick(self) -> None:
        """Say it when a line is due."""
        self._lines.tick()

    def _line(self) -> str:
        still = self._clock() - self._moved_at >= LINE_EVERY_S
        since = f", nothing new for {waited(self._moved_at, self._clock())}" if still else ""
        return f"{self._seen.done} of {self._seen.files} files, {self._figures()[0]}{since}"

    def rows(self) -> Rows:
        """A table of it."""
        seen = self._seen
        elapsed = f"{self._clock() - self._began:.0f} s"
        files = [f"{seen.done} of {seen.files}", str(seen.unchanged), str(len(seen.skipped))]
        header = ["files", "unchanged", "skipped", "chunks", "rate", "elapsed"]
        return [header, [*files, *self._figures(), elapsed]]

    def _figures(self) -> list[str]:
        elapsed = self._clock() - self._began
        rate = self._seen.added / elapsed if elapsed > 0 else 0.0
        return [f"{self._seen.added} chunks added", f"{rate:.1f} chunks/s"]


def ingest_paths(
    url: str,
    paths: Sequence[Path],
    retrieval: Retrieval,
    console: Console,
    token_file: Path | None = None,
) -> IngestProgress:
    """Bring all documents at and below `paths` into the deployment whose client service is at
    `url`, and asks for the token of a file; say what came of it.

    Raises UsageError when there are none, ServiceError when the service does not take them.
    """
    try:
        files = find_files(paths)
    except NoDocuments as error:
        raise UsageError(str(error)) from error
    console.tell("orch", f"ingest: {len(files)} files")
    telling = Telling(
        lambda line: None if console.interactive else console.tell("orch", f"ingest: {line}"),
        files=len(files),
    )
    chunking = Chunking(retrieval.chunk_tokens, retrieval.chunk_overlap)
    try:
        with console.live(telling.rows, telling.tick):
            progress = ingest(files, ServicePoints(url, token_file), chunking, telling.take)
    except ServiceError as error:
        error.details += outcome_lines(telling.seen)
        raise
    for line in outcome_lines(progress):
        console.say(line)
    return progress


def outcome_lines(progress: IngestProgress) -> Iterator[str]:
    """What an ingest has done, and what it left out, with the reason."""
    read = progress.done - len(progress.skipped)
    parts = [f"{read} files, {progress.unchanged} unchanged", f"{progress.added} chunks added"]
    for name, words in _MORE.items():
        if getattr(progress, name):
            parts.append(f"{getattr(progress, name)} {words}")
    yield f"ingested: {'; '.join(parts)}"
    yield from _named("skipped", progress.skipped, "files")
    yield from _named("left out of", progress.partly, "parts")
    yield from _named("twice:", progress.copies, "files")


def _named(what: str, found: Sequence[Skipped], things: str) -> Iterator[str]:
    for one in found[:SHOWN]:
        yield f"  {what} {on_one_line(one.source, 4_000)}: {one.kind}: {one.words}"
    if len(found) > SHOWN:
        yield f"  {what} {len(found) - SHOWN} more {things}"


def warning_of(progress: IngestProgress) -> str:
    """A sentence on what was left out; none when nothing was."""
    if not progress.left_out:
        return ""
    lost = sum(one.kind != "duplicate" for one in progress.skipped)
    return (
        f"the ingest left out {lost} of {progress.files} files, {progress.parts} parts of files "
        f"and {progress.refused} chunks, each named with its reason"
    )


_MORE = {
    "present": "were there from a run that was cut off",
    "removed": "of earlier versions removed",
    "refused": "refused",
    "truncated": "are longer than the embedding model reads (lower chunk_tokens)",
}
