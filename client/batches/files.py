"""The files of batches, as OpenAI's API has them: each belongs to a name, and nobody else sees it.

In a folder of the deployment's: ID.jsonl is what was sent, ID.json what is known of it, written
when that is whole. What a client calls a file stands in there, and never becomes a path.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from client.compatible.errors import NoSuchObject, NotKept, OutOfSpace, TooLarge
from contracts.files import write_whole
from contracts.job_files import fresh
from contracts.json_object import JsonObject

MOST_FILE_BYTES = 1 << 30
#: Seconds after which a file that nobody has written to does not come in any more.
STALE_S = 600
#: Of each name, with what its batches have written.
MOST_FILES, MOST_BYTES = 1000, 10 << 30
BATCH, BATCH_OUTPUT = "batch", "batch_output"
_PART = ".part"
_ID = re.compile(r"file-[0-9a-z-]+")


class FileRecord(BaseModel):
    """A file that is whole. `content` is where, from the folder of all batches; `created` is Unix
    time."""

    model_config = ConfigDict(frozen=True)

    id: str
    user: str
    filename: str
    purpose: str
    size: int
    created: float
    content: str

    def as_json(self) -> JsonObject:
        """The file as OpenAI's API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": int(self.created),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Upload:
    """A file that comes in: what werkzeug writes to."""

    def __init__(self, path: Path, most: int) -> None:
        """`most`: bytes that it may have. Raises OSError."""
        self.path, self._most = path, most
        self.size = 0
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file: BinaryIO = os.fdopen(handle, "wb")

    def write(self, data: bytes) -> int:
        """Write what has come. Raises TooLarge, OSError."""
        self.size += len(data)
        if self.size > self._most:
            raise TooLarge(f"A file has at most {self._most} bytes here: split it.", "file")
        return self._file.write(data)

    def seek(self, to: int) -> int:
        """Werkzeug's call when all has come; nobody reads it here."""
        return self._file.seek(to)

    def close(self) -> None:
        """Raises OSError: the disk is full."""
        self._file.close()

    def drop(self) -> None:
        """Remove what has come, if it was not kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class FileStore:
    """All files, for any thread; there is one of these for a folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of all batches; it is made when there is something for it. Raises
        OSError: it cannot be read."""
        self._root, self._folder = folder, folder / "files"
        self._lock = threading.Lock()
        self._known: dict[str, FileRecord] = {}
        for path in self._folder.glob(f"*{_PART}"):
            with contextlib.suppress(FileNotFoundError):  # it has become a file just now
                if time.time() - path.stat().st_mtime > STALE_S:  # of a process before us
                    path.unlink()
        self._refresh()

    def _refresh(self) -> None:
        """Learn what the service of another job of the deployment has kept, or deleted."""
        there = {path.stem for path in fresh(self._folder / ".").glob("*.json")}
        known = {file_id: one for file_id, one in self._known.items() if file_id in there}
        for file_id in there - known.keys():
            with contextlib.suppress(OSError):  # not now: it is looked at again
                if (found := self._read(file_id)) is not None:
                    known[file_id] = found
        self._known = known

    def _read(self, file_id: str) -> FileRecord | None:
        """What is known of a file; None if there is none, or it is of no use. Raises OSError: that
        cannot be said now."""
        try:
            path = fresh(self._folder / f"{file_id}.json")
            found = FileRecord.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return found if self.path(found).exists() else None

    def begin(self, user: str) -> Upload:
        """Return where a file of this user's is written to. Raises OutOfSpace, NotKept."""
        self._check_room(user, 0)
        try:
            private_folder(self._folder)
            return Upload(self._folder / f"{new_id('file-')}{_PART}", MOST_FILE_BYTES)
        except OSError as error:
            raise _not_kept(error) from error

    def keep(self, upload: Upload, user: str, filename: str) -> FileRecord:
        """Make a file of what has come whole. Raises OutOfSpace, NotKept."""
        name = f"{upload.path.stem}.jsonl"
        record = FileRecord(
            id=upload.path.stem, user=user, filename=filename, purpose=BATCH, size=upload.size,
            created=time.time(), content=f"files/{name}",
        )  # fmt: skip
        try:
            upload.close()
            with self._lock:
                self._check(user, upload.size)
                upload.path.replace(self._folder / name)
                self._keep(record)
        except OSError as error:
            raise _not_kept(error) from error
        return record

    def adopt(self, file_id: str, user: str, path: Path, filename: str) -> FileRecord:
        """Make a file of what a batch has written. Raises OSError."""
        record = FileRecord(
            id=file_id, user=user, filename=filename, purpose=BATCH_OUTPUT,
            size=path.stat().st_size, created=time.time(),
            content=str(path.relative_to(self._root)),
        )  # fmt: skip
        with self._lock:
            self._keep(record)
        return record

    def _keep(self, record: FileRecord) -> None:
        write_whole(self._folder / f"{record.id}.json", [record.model_dump_json()], 0o600)
        self._known[record.id] = record

    def of(self, user: str) -> list[FileRecord]:
        """Return the user's files, the oldest first."""
        with self._lock:
            self._refresh()
            return sorted((one for one in self._known.values() if one.user == user),
                          key=lambda one: (one.created, one.id))  # fmt: skip

    def get(self, user: str, file_id: str) -> FileRecord:
        """Return a file of the user's. Raises NoSuchObject, NotKept."""
        try:
            found = self._read(file_id) if _ID.fullmatch(file_id) else None
        except OSError as error:
            raise NotKept(f"The file cannot be read now: {error.strerror}; ask again.") from error
        if found is None or found.user != user:
            raise NoSuchObject(f"No such File object: {file_id[:100]}.", "id")
        return found

    def path(self, record: FileRecord) -> Path:
        """Return where its content is."""
        return self._root / record.content

    def delete(self, user: str, file_id: str) -> None:
        """Remove a file of the user's. Raises NoSuchObject, NotKept."""
        record = self.get(user, file_id)
        try:
            with self._lock:
                (self._folder / f"{record.id}.json").unlink(missing_ok=True)
                self._known.pop(record.id, None)
                self.path(record).unlink(missing_ok=True)
        except OSError as error:
            raise _not_kept(error) from error

    def _check_room(self, user: str, more: int) -> None:
        with self._lock:
            self._check(user, more)

    def _check(self, user: str, more: int) -> None:
        self._refresh()
        sizes = [one.size for one in self._known.values() if one.user == user]
        if len(sizes) >= MOST_FILES:
            raise OutOfSpace(f"There are {len(sizes)} files of this token already, and may be "
                             f"{MOST_FILES}: delete some of them first.", "file")  # fmt: skip
        if sum(sizes) + more > MOST_BYTES:
            raise OutOfSpace(f"The files of this token have {sum(sizes)} bytes already, and may "
                             f"have {MOST_BYTES} in all: delete some first.", "file")  # fmt: skip


def new_id(prefix: str) -> str:
    """Return an id that nobody guesses."""
    return f"{prefix}{secrets.token_hex(12)}"


def private_folder(path: Path) -> None:
    """Make a folder in that of all batches, if it is not there. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def _not_kept(error: OSError) -> NotKept:
    return NotKept(f"The deployment cannot keep files: {error.strerror or error}; its owner is to "
                   "make room in its output directory.")  # fmt: skip
