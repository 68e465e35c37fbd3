"""An append-only file of JSON Lines, of which a kill or a full disk leaves all whole lines.

Why not SQLite: its write-ahead log needs memory that all who open it share, so it must not be on a
network file system (https://www.sqlite.org/wal.html), and its rollback journal needs locks that
parallel file systems grant only where they are mounted so. A line that is appended by a single
write needs neither; the one that was cut short has no line feed, and is cut away by the next
writer.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import FileError
from contracts.json_object import JsonObject

#: The end of a file is looked for in pieces of this size.
_PIECE = 65536


class JournalInUse(UsageError):
    """Another process writes to this file."""


def entries(path: Path) -> Iterator[JsonObject]:
    """Yield the whole lines of a journal; none if it is not there.

    A last line that was cut short is none. Raises FileError naming the line that is no JSON object.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}; check its permissions.") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            yield _entry(line, path, number)


def _entry(line: bytes, path: Path, number: int) -> JsonObject:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise FileError(
            f"line {number} of {path} is no JSON object, so somebody else has written there; put "
            "the file back as it was, or move it away to begin again."
        )
    return entry


class Journal:
    """A journal as its only writer. `add` appends entries; what was added stays after a kill."""

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        """Open the file, make it if it is not there, and cut away a last line that is not whole.

        Where the file system grants no locks, nobody is kept from writing beside us. Raises
        JournalInUse if another process writes to it, and FileError if it cannot be written.
        """
        self.path = path
        try:
            how = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(path, how, mode)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            _lock(self._file, path)
            self._end = _whole_end(self._file)
            os.ftruncate(self._file, self._end)
        except OSError as error:
            self.close()
            raise cannot_write(self.path, error) from error
        except JournalInUse:
            self.close()
            raise

    def add(self, *added: JsonObject, on_disk: bool = False) -> int:
        """Append the entries by one write, and return at which byte they begin.

        `on_disk`: wait until the disk has them, so that they outlast the loss of the node as well.
        Raises FileError if there is no room; nothing of them is left then.
        """
        text = "".join(
            f"{json.dumps(entry, ensure_ascii=False, separators=(',', ':'))}\n" for entry in added
        )
        data = text.encode("utf-8", "surrogatepass")
        begin = self._end
        try:
            _write(self._file, data)
            if on_disk:
                os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # then the next writer does it
                os.ftruncate(self._file, begin)
            raise cannot_write(self.path, error) from error
        self._end += len(data)
        return begin

    def sync(self) -> None:
        """Wait until the disk has all that was added. Raises FileError."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Let others write."""
        os.close(self._file)


def cannot_write(path: Path, error: OSError) -> FileError:
    """Return what to say of a file of a work that the same command goes on with."""
    return FileError(
        f"cannot write {path}: {error.strerror}; make room there, then give the same command "
        "again: what is done is not done twice."
    )


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalInUse(
            f"another process works on {path}; wait for its end, or end it, and give the same "
            "command again."
        ) from error
    except OSError:
        return  # a file system without locks (Lustre mounted without `flock`)


def _write(file: int, data: bytes) -> None:
    while data:  # by one call as a rule; a full disk takes a part
        data = data[os.write(file, data) :]


def _whole_end(file: int) -> int:
    """Behind which byte of the file its last whole line ends."""
    end = os.fstat(file).st_size
    while end > 0:
        begin = max(0, end - _PIECE)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
