"""Ingest: files of this host are read and cut here, and go to the client service in batches.

The service owns the store in every mode, and says of each batch what became of it; so a run that is
interrupted loses nothing that was acknowledged, and the next one completes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpc.console import Console, Rows
from hpc.errors import ServiceError, UsageError
from hpc.progress import LINE_AFTER_S, LINE_AT_LATEST_S
from hpc.recipe import Retrieval
from hpc.web import NoAnswer, call
from retrieval.chunks import Chunk
from retrieval.documents import find_files
from retrieval.errors import NoDocuments
from retrieval.ingest import Progress, ingest
from retrieval.settings import Chunking

#: For one batch: the service itself gives up on Ollama sooner, with a reason.
BATCH_TIMEOUT_S = 3600.0
#: Files that are named one by one where they cannot be read.
SHOWN = 20


class ServicePoints:
    """Hands chunks to the client service at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def put(
        self, source: str, version: str, count: int, chunks: Sequence[Chunk]
    ) -> Mapping[str, Any]:
        """POST /points. Raises ServiceError in the service's own words."""
        body = {"source": source, "version": version, "count": count}
        made = [asdict(chunk) for chunk in chunks]
        again = "; run it again, it goes on from there"
        try:
            answer = call("POST", f"{self._url}/points", {**body, "chunks": made}, BATCH_TIMEOUT_S)
        except NoAnswer as error:
            raise ServiceError(f"the ingest broke off at {source}: {error}{again}.") from error
        if answer.status != 200:
            raise ServiceError(f"the ingest broke off at {source}: {answer.error}{again}.")
        return answer.json


class Telling:
    """What is shown of a running ingest; `say` gets the lines of a log."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._began = self._told_at = clock()
        self._told_tenths = 0
        self._seen = Progress(files=0)

    def take(self, progress: Progress) -> None:
        """Take in what is known now, and say it where a line is due."""
        self._seen = progress
        waited = self._clock() - self._told_at
        tenths = 10 * progress.done // progress.files
        if (waited >= LINE_AFTER_S and tenths > self._told_tenths) or waited >= LINE_AT_LATEST_S:
            self._told_at, self._told_tenths = self._clock(), tenths
            self._say(f"{progress.done} of {progress.files} files, {self._figures()[0]}")

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
    url: str, paths: Sequence[Path], retrieval: Retrieval, console: Console
) -> Progress:
    """Bring all documents at and below `paths` into the deployment whose client service is at
    `url`, and say what came of it.

    Raises UsageError where there are none, ServiceError where the service does not take them.
    """
    try:
        files = find_files(paths)
    except NoDocuments as error:
        raise UsageError(str(error)) from error
    console.tell("orch", f"ingest: {len(files)} files")
    telling = Telling(lambda line: None if console.interactive else console.tell("orch", line))
    chunking = Chunking(retrieval.chunk_tokens, retrieval.chunk_overlap)
    with console.live(telling.rows):
        progress = ingest(files, ServicePoints(url), chunking, telling.take)
    for line in outcome_lines(progress):
        console.say(line)
    return progress


def outcome_lines(progress: Progress) -> Iterator[str]:
    """What an ingest has done, and each file that it left out, with the reason."""
    read = progress.files - len(progress.skipped)
    parts = [f"{read} files, {progress.unchanged} unchanged", f"{progress.added} chunks added"]
    for name, words in _MORE.items():
        if getattr(progress, name):
            parts.append(f"{getattr(progress, name)} {words}")
    yield f"ingested: {'; '.join(parts)}"
    for skipped in progress.skipped[:SHOWN]:
        yield f"  skipped {skipped.source}: {skipped.kind}: {skipped.words}"
    if len(progress.skipped) > SHOWN:
        yield f"  skipped {len(progress.skipped) - SHOWN} more files"


_MORE = {
    "present": "were there from a run that was cut off",
    "removed": "of earlier versions removed",
    "truncated": "are longer than the embedding model reads (lower chunk_tokens)",
}


def record_of(progress: Progress) -> dict[str, Any]:
    """For the deployment's record and for programs."""
    return {**asdict(progress), "skipped": [asdict(one) for one in progress.skipped]}
