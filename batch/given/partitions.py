"""Records on local disk, in parts of which each fits into memory: equal keys are in the same part.

So what belongs together is found, however many there are (a hash join). The files have no names,
so that nothing of them stays after a kill.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

from contracts.files import FileError

_BUFFER = 16_384
#: Bytes of input for each part: about as many records as fit into some megabytes.
_INPUT_OF_A_PART = 4_194_304
_FEWEST, _MOST = 4, 256


def parts_for(size: int) -> int:
    """Return how many parts an input of so many bytes should have."""
    return min(_MOST, max(_FEWEST, size // _INPUT_OF_A_PART))


class Partitions:
    """Records of one length, whose first bytes are a hash that they are parted by."""

    def __init__(self, parts: int, record_size: int) -> None:
        """Raises FileError."""
        self._size = record_size
        self._files: list[IO[bytes]] = []
        try:
            for _ in range(parts):
                self._files.append(tempfile.TemporaryFile(buffering=_BUFFER))  # noqa: SIM115
        except OSError as error:
            self.close()
            raise _failed(error) from error

    def add(self, record: bytes) -> None:
        """Raises FileError."""
        part = int.from_bytes(record[:4], "big") % len(self._files)
        try:
            self._files[part].write(record)
        except OSError as error:
            raise _failed(error) from error

    def part(self, number: int) -> Iterator[bytes]:
        """Yield the records of a part in the order in which they were added. Raises FileError."""
        file = self._files[number]
        try:
            file.seek(0)
            while record := file.read(self._size):
                yield record
        except OSError as error:
            raise _failed(error) from error

    def clear(self) -> None:
        """Forget all records. Raises FileError."""
        try:
            for file in self._files:
                file.seek(0)
                file.truncate()
        except OSError as error:
            raise _failed(error) from error

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self._files)

    def close(self) -> None:
        """Remove them."""
        for file in self._files:
            try:
                file.close()
            except OSError:
                pass  # what was still to be written had no room, and nobody reads it


def _failed(error: OSError) -> FileError:
    try:
        where = tempfile.gettempdir()
    except OSError:  # none of those that Python knows has room, or may be written
        where = "any folder for temporary files"
    return FileError(
        f"cannot keep what a batch's check needs in {where}: {error.strerror}; "
        "make room there, or name another folder by TMPDIR, then give the same command again."
    )
