"""Answers, errors and ledger while a batch is worked off: each answer is there once, and whole.

An answer is written to its file first, by one call, and then to the ledger. Killed between the two,
its line itself proves what it answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO

from batch.files import Files
from batch.given.check import Checked, Index
from batch.given.lines import Unit
from batch.kept.entries import REWRITTEN, Begin, Done, checksum_of, failed_entry, line_of, tokens_of
from batch.kept.recovery import Mark, Past, Recovered, accepted, check_whose, recover
from contracts.files import FileError
from contracts.json_object import JsonObject
from ledger.conditions import Conditions
from ledger.journal import Journal

#: Entries that are written at once.
_AT_ONCE = 1000


class Store:
    """The files of a batch, as their only writer."""

    def __init__(self, files: Files) -> None:
        """Raises JournalInUse if another process works on the batch, FileError."""
        self._files = files
        self._journal = Journal(files.ledger)
        self._lock = threading.Lock()
        self._answers = self._errors = -1
        self._end = 0
        self._conditions = ""
        with contextlib.suppress(OSError):  # what a kill has left half-written
            self._new.unlink()

    @property
    def _new(self) -> Path:
        """Where the answers are written anew."""
        return self._files.answers.with_name(f".{self._files.answers.name}.new")

    def begin(
        self, given: Checked, index: Index, conditions: Conditions, accept_changes: bool
    ) -> tuple[Recovered, bool]:
        """Put what is there in order, and begin a run: return what is done already, and whether
        the input was another one before.

        Raises UsageError naming what has changed, FileError; nothing is changed by then but that a
        cut line is gone.
        """
        now = Begin(conditions, [], given.digest)
        with Past(self._files) as past:
            known = recover(past, given, index)
            check_whose(known, given, self._files)
            now = replace(now, accepted=accepted(past, known, now, self._files, accept_changes))
            changed = bool(past.runs) and past.runs[-1].digest != given.digest
            self._journal.add(now.entry(given), on_disk=True)
            if known.others or known.unknown:
                self._write_anew(past, known)
            else:
                for done in past.adopted:
                    self._journal.add(done.entry())
        self._conditions = now.key
        self._answers = self._open(self._files.answers, os.O_APPEND)
        self._end = os.fstat(self._answers).st_size
        self._errors = self._open(self._files.errors, os.O_APPEND | os.O_TRUNC)
        return known, changed

    def _open(self, path: Path, how: int) -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o644)
        except OSError as error:
            raise _failed(path, error) from error

    def _write_anew(self, past: Past, known: Recovered) -> None:
        """Leave out of the answers what is of no line of the input; all of them as they were
        are kept beside them. Raises FileError."""
        path, new = self._files.answers, self._new
        try:
            with tempfile.TemporaryFile("w+", dir=path.parent) as spool:
                with new.open("wb") as file:
                    _copy_kept(past, known, file, spool)
                    file.flush()
                    os.fsync(file.fileno())
                spool.seek(0)  # which writes what is left of it: nothing has been changed so far
                self._files.before.unlink(missing_ok=True)
                try:
                    os.link(path, self._files.before)
                except OSError:  # a file system without hard links
                    shutil.copyfile(path, self._files.before)
                new.replace(path)
                self._journal.add(REWRITTEN)
                while some := [json.loads(line) for line in islice(spool, _AT_ONCE)]:
                    self._journal.add(*some)
            self._journal.sync()
        except OSError as error:
            raise _failed(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                new.unlink()

    def answered(
        self, unit: Unit, attempt: int, status: int, request_id: str | None, body: JsonObject
    ) -> tuple[int, int]:
        """Write an answer; return the tokens that were read and written for it. Raises
        FileError."""
        tokens = tokens_of(body)
        response = {"status_code": status, "request_id": request_id, "body": body}
        line = self._line(unit, response, None)
        with self._lock:
            if self._answers < 0:  # it is over, and this answer came too late
                return 0, 0
            begin = self._end
            self._write(self._answers, line, self._files.answers, begin)
            self._end += len(line)
            done = Done(unit.custom_id, unit.key, self._conditions, attempt, begin, len(line),
                        checksum_of(line), *tokens)  # fmt: skip
            self._journal.add(done.entry())
        return tokens

    def failed(
        self, unit: Unit, attempt: int, code: str, message: str, response: JsonObject | None
    ) -> None:
        """Write a line that has failed in the end. Raises FileError."""
        line = self._line(unit, response, {"code": code, "message": message})
        entry = failed_entry(unit.custom_id, unit.key, self._conditions, attempt, code)
        with self._lock:
            if self._errors < 0:
                return
            end = os.lseek(self._errors, 0, os.SEEK_END)
            self._write(self._errors, line, self._files.errors, end)
            self._journal.add(entry)

    def _line(self, unit: Unit, response: JsonObject | None, error: JsonObject | None) -> bytes:
        rest = {"custom_id": unit.custom_id, "response": response, "error": error}
        return line_of(unit.key, self._conditions, rest)

    def _write(self, file: int, line: bytes, path: Path, end: int) -> None:
        """By one call as a rule; a full disk takes a part, of which nothing is left."""
        try:
            while line:
                line = line[os.write(file, line) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # then the next run does it
                os.ftruncate(file, end)
            raise _failed(path, error) from error

    def sync(self) -> None:
        """Wait until the disk has what was written. Raises FileError."""
        try:
            os.fsync(self._answers)
        except OSError as error:
            raise _failed(self._files.answers, error) from error
        self._journal.sync()

    def close(self) -> None:
        """Let others work on the batch; nothing is written after this."""
        with self._lock:
            for file in (self._answers, self._errors):
                if file >= 0:
                    os.close(file)
            self._answers = self._errors = -1
            self._journal.close()


def _copy_kept(past: Past, known: Recovered, answers: IO[bytes], spool: IO[str]) -> None:
    """Write the answers that are kept, and to the spool their entries. Raises OSError."""
    end, place = 0, 0
    for done in past.answers():
        if done is Mark.AGAIN:
            for file in (answers, spool):
                file.seek(0)
                file.truncate()
            end, place = 0, 0
            continue
        if isinstance(done, Done) and place in known.kept:
            answers.write(past.read(done))
            spool.write(json.dumps(done.moved(end).entry()) + "\n")
            end += done.size
        place += 1


def _failed(path: Path, error: OSError) -> FileError:
    return FileError(
        f"cannot write {path}: {error.strerror}; make room there, then give the same command "
        "again: what is answered is not asked again."
    )
