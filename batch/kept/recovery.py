"""What of a batch is there already, after whatever has ended the runs before."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO

from batch.files import Files
from batch.given.check import Checked, Entry, Index
from batch.given.partitions import Partitions
from batch.given.reading import hash_of
from batch.kept.entries import Begin, Done, begin_of, checksum_of, done_of, proved
from contracts.errors import UsageError
from contracts.files import FileError
from ledger.conditions import differences
from ledger.journal import entries

#: Hash of the custom_id, key, place in the order of answers, run, tokens read and written.
_RECORD = struct.Struct(">16s16sQIQQ")


class Bits:
    """Which of many numbers are in a set: a bit for each."""

    def __init__(self, most: int) -> None:
        self._bits = bytearray(most // 8 + 1)

    def add(self, number: int) -> None:
        self._bits[number >> 3] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        return bool(self._bits[number >> 3] >> (number & 7) & 1)


@dataclass
class Recovered:
    """What is there: which lines (by number) have an answer, how many, their tokens; `kept`: those
    answers, by their place in the order of answers; `others`: how many answers are of no line of
    the input, or of one that another answers as well; `unknown`: lines that are no answers of ours;
    `by_run`: answers that are kept, by the conditions' fingerprint."""

    done: Bits
    kept: Bits
    reused: int = 0
    others: int = 0
    unknown: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    by_run: Counter[str] = field(default_factory=Counter)


class Mark(Enum):
    """What the answers have beside answers: a line that is none of ours; or all of them begin
    again, since they were written anew then."""

    UNKNOWN = 0
    AGAIN = 1


class Past:
    """The ledger and the answers of the runs before, while nobody writes to them."""

    def __init__(self, files: Files) -> None:
        """Open the answers. Raises FileError."""
        self._files = files
        #: The runs, oldest first; `Past` knows them after `answers` has been gone through.
        self.runs: list[Begin] = []
        #: Answers at the end that have no entry in the ledger, though they are whole.
        self.adopted: list[Done] = []
        try:
            how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._file: BinaryIO = os.fdopen(os.open(files.answers, how, 0o644), "r+b")
        except OSError as error:
            raise _failed(files, error) from error

    def close(self) -> None:
        """Close the answers."""
        self._file.close()

    def __enter__(self) -> Past:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answers(self) -> Iterator[Done | Mark]:
        """Yield what is known of each line of the answers, in their order.

        A last line that is not whole is cut away. Raises FileError, and UsageError if there are
        answers without a ledger.
        """
        try:
            yield from self._answers()
        except OSError as error:
            raise _failed(self._files, error) from error

    def _answers(self) -> Iterator[Done | Mark]:
        self.runs, self.adopted = [], []
        position, known = 0, False
        for entry in entries(self._files.ledger):
            known, kind = True, entry.get("entry")
            if kind == "begin":
                self.runs.append(begin_of(entry))
            elif kind == "rewritten":
                position = 0
                yield Mark.AGAIN
            elif (done := done_of(entry)) and done.at >= position and self._is_whole(done):
                yield from self._between(position, done.at)
                yield done
                position = done.at + done.size
        size = os.fstat(self._file.fileno()).st_size
        if size and not known:
            raise UsageError(
                f"{self._files.answers} is there, but {self._files.ledger.name}, which says whose "
                "answers it holds, is not: name another file by --out, or move it away."
            )
        for found in self._between(position, size):
            if isinstance(found, Done):
                self.adopted.append(found)
            yield found

    def _is_whole(self, done: Done) -> bool:
        data = self.read(done)
        return len(data) == done.size and checksum_of(data) == done.checksum

    def read(self, done: Done) -> bytes:
        """Return an answer's line. Raises OSError."""
        return os.pread(self._file.fileno(), done.size, done.at)

    def _between(self, begin: int, end: int) -> Iterator[Done | Mark]:
        """The lines of which the ledger knows nothing."""
        keys = [run.key for run in self.runs]
        self._file.seek(begin)
        while begin < end:
            line = self._file.readline(end - begin)
            last = begin + len(line) == os.fstat(self._file.fileno()).st_size
            if last and not line.endswith(b"\n"):  # cut short by a kill
                os.ftruncate(self._file.fileno(), begin)
                return
            yield proved(line, begin, keys) or Mark.UNKNOWN
            begin += len(line)


def recover(past: Past, given: Checked, index: Index) -> Recovered:
    """Return what is there of an input. Raises FileError, UsageError."""
    found = Partitions(len(index), _RECORD.size)
    try:
        number, unknown = _collect(past, found)
        known = Recovered(Bits(given.last_line), Bits(number), unknown=unknown)
        for part in range(len(index)):
            _join(index.part(part, lambda *_: None), found.part(part), past.runs, known)
    finally:
        found.close()
    return known


def _collect(past: Past, found: Partitions) -> tuple[int, int]:
    """Keep what is known of all answers; return how many lines there are, and of them those that
    are no answers."""
    number, unknown = 0, 0
    runs: dict[str, int] = {}
    for done in past.answers():
        if done is Mark.AGAIN:
            found.clear()
            number, unknown = 0, 0
        elif isinstance(done, Done):
            if done.conditions not in runs:
                runs = {run.key: place for place, run in enumerate(past.runs)}
            found.add(_RECORD.pack(
                hash_of(done.custom_id), bytes.fromhex(done.key), number,
                runs.get(done.conditions, len(past.runs)), done.input_tokens, done.output_tokens
            ))  # fmt: skip
            number += 1
        else:
            number, unknown = number + 1, unknown + 1
    return number, unknown


def _join(
    lines: dict[bytes, Entry], found: Iterator[bytes], runs: Sequence[Begin], known: Recovered
) -> None:
    """Find the line of each answer of a part."""
    for record in found:
        name, key, number, run, read, written = _RECORD.unpack(record)
        line = lines.get(name)
        if line is None or line.key != key or line.number in known.done:
            known.others += 1
            continue
        known.done.add(line.number)
        known.kept.add(number)
        known.reused += 1
        known.input_tokens += read
        known.output_tokens += written
        known.by_run[runs[run].key if run < len(runs) else ""] += 1


def accepted(
    past: Past, known: Recovered, now: Begin, files: Files, accept_changes: bool
) -> list[str]:
    """Return the fingerprints of other conditions that answers may be of.

    Raises UsageError naming what has changed, if nobody has accepted that.
    """
    before = {one for run in past.runs for one in run.accepted if run.key == now.key}
    others = [key for key in known.by_run if key != now.key]
    new = [key for key in others if key not in before]
    if new and not accept_changes:
        count = sum(known.by_run[key] for key in new)
        old = next((run for run in reversed(past.runs) if run.key in new), None)
        what = differences(old.conditions, now.conditions) if old else ["conditions: not known"]
        raise UsageError(
            f"{count} answers in {files.answers} were made under other conditions "
            f"({'; '.join(what)}), so nothing was sent: name another file by --out, or keep them "
            "beside the new ones by --accept-changes."
        )
    return sorted({*before, *others})


def check_whose(known: Recovered, given: Checked, files: Files) -> None:
    """Raises UsageError if all answers that are there are of other lines than the input's."""
    if known.others and not known.reused:
        raise UsageError(
            f"none of the {known.others} answers in {files.answers} is of a line of {given.path}, "
            "so nothing was sent: name another file by --out, or move that one away."
        )


def _failed(files: Files, error: OSError) -> FileError:
    return FileError(
        f"cannot read or write {files.answers}: {error.strerror}; make room there or check its "
        "permissions, then give the same command again."
    )
